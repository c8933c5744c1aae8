"""After warming up nothing is left to compile: seen from a process of its own, in which nobody else compiled."""

import importlib
import pkgutil
import random
import subprocess
import sys

from numba.core.dispatcher import Dispatcher

from online_model import candidates, listing, ranking_kernel, scoring
from online_model.config import ModelConfig
from online_model.encoders import gru
from online_model.learner import OnlineLearner
from online_model.protocol import Context, Example, Request
from online_model.serving import ServingModel
from online_model.updates import Update
from online_model.warm import warm_up


def compiled() -> dict[str, list[object]]:
    """Signatures of all compiled functions, by name."""
    modules = [scoring, listing, ranking_kernel, gru]
    modules += [
        importlib.import_module(f"{candidates.__name__}.{module.name}")
        for module in pkgutil.iter_modules(candidates.__path__)
    ]
    return {
        f"{value.__module__}.{value.__name__}": list(value.signatures)
        for module in modules
        for value in vars(module).values()
        if isinstance(value, Dispatcher)
    }


def make_batch(chance: random.Random, number: int) -> list[Example]:
    """Sittings of no, few and many visits, some after earlier ones."""
    examples = []
    for place in range(64):
        now = 1_000 * number + place
        visits = tuple((f"item {chance.randrange(70)}", "view", now - place % 12 + step) for step in range(place % 12))
        examples.append(Example(Context(visits, place % 12 // 3, now), f"item {chance.randrange(70)}"))
    return examples


def use() -> None:
    """Learn, rank, answer, save, load and follow with the default model."""
    chance = random.Random(1)
    config = ModelConfig(device="cpu", max_items=60)
    learner = OnlineLearner(config)
    for number in range(3):
        batch = make_batch(chance, number)
        requests = [Request(example.context) for example in batch]
        learner.admit(batch)
        learner.rank(requests, [example.item or "" for example in batch])
        learner.learn(batch)
        learner.recommend(requests, 20)
    assert learner.n_evicted > 0
    resumed = OnlineLearner(config)
    resumed.load_state(learner.state())
    copy = ServingModel(Update.decode(resumed.update().encode()))
    resumed.learn(make_batch(chance, 4))
    copy.apply(Update.decode(resumed.update().encode()))
    copy.recommend(requests, 20)


def test_warming_up_compiles_all_that_is_used():
    subprocess.run([sys.executable, __file__], check=True)


if __name__ == "__main__":
    warm_up()
    warmed = compiled()
    use()
    used = compiled()
    fresh = {name: signatures for name, signatures in used.items() if signatures != warmed[name]}
    assert not fresh, f"compiled at first use: {fresh}"
    assert sum(map(bool, used.values())) >= 10, used
