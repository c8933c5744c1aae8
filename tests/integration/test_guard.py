"""A poisoned range in a real log ends in a return, whatever is killed when; broken weights go back at once."""

import random
import signal
import threading

import msgspec
import pytest
import torch

from online_model.checkpoint import newest, paths
from online_model.guard import Guard
from stream.learning import Learning, MiniBatch
from stream.records import TrainingExample, decode_example, encode_example
from stream.trainer import Trainer
from stream.trainer_messages import Ended, Facts, Started, Updated
from tests.integration.test_trainer import BATCH, Shop, lines, stop, wait_until

N_ITEMS = 200
HARM_FROM, HARM_TO, FOUND_BY, END = 3_600, 4_400, 4_640, 5_600


def example(chance, n):
    """A shop where each item leads to one other; in the poisoned range to any, and with a weight that is absurd.

    What served before it was found was of no use either.
    """
    item, harm = chance.randrange(N_ITEMS), HARM_FROM <= n < HARM_TO
    target = chance.randrange(N_ITEMS) if harm else (item * 7 + 3) % N_ITEMS
    served = not HARM_FROM <= n < FOUND_BY and chance.random() < 0.8
    return encode_example(
        TrainingExample(
            topic="tag",
            partition=0,
            offset=n,
            time=1_700_000_000_000 + n * 1000,
            logged_at=1_700_000_000_000,
            user=f"u{n % 97}",
            behavior="view",
            role="interest",
            history=[(f"i{item}", "view", 1_700_000_000_000)],
            sitting=0,
            item=f"i{target}",
            scored=True,
            rank=int(served),
            weight=1000.0 if harm else 1.0,
        )
    )


class GuardedShop(Shop):
    """Lists of one item: what the range did to the weights is plain."""

    def options(self, **options):
        interval = options.pop("checkpoint_interval_seconds", 0.5)
        values = super().options(by="count", checkpoint_interval_seconds=interval, **options)
        return values | {"lists": {"k": 1}, "measure": {"sample": 0.1, "frozen_after": 10**9}}

    def guard(self):
        guard = Guard(3)
        guard.load_state(self.checkpoint().states["guard"])
        return guard


@pytest.fixture
def shop(kafka, topics, fresh_prefix, tmp_path):
    shop = GuardedShop(kafka, topics, fresh_prefix, tmp_path)
    yield shop
    for process in shop.running:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def log():
    chance = random.Random(1)
    return [example(chance, n) for n in range(END)]


def learned_without(shop, log, guard, n_examples):
    """Learn the same log but for what was left out, with the same steps: as if it had never been there."""
    learning = Learning(shop.settings(), "other")
    kept = [n for n in range(len(log)) if not guard.leaves_out(n)][:n_examples]
    for first in range(0, n_examples, BATCH):
        batch = MiniBatch()
        for n in kept[first : first + BATCH]:
            batch.take(n, log[n], learning.ledger)
        learning.guard.returns = guard.returns
        learning.learn(batch)
    return learning.learner.state()


def assert_as_if_never_seen(shop, log):
    guard, counts = shop.guard(), shop.counts()
    (decided,) = guard.returns
    assert decided.reason in ("loss", "hit-rate")
    assert HARM_FROM - 10 * BATCH <= decided.start <= HARM_FROM + 10 * BATCH
    assert HARM_TO < decided.end < END  # how soon, a checkpoint that is being written decides too
    assert counts["quarantined"] == decided.end - decided.start
    assert counts["learned"] == shop.checkpoint().cut.position - counts["quarantined"]
    other = learned_without(shop, log, guard, counts["learned"])
    for name, tensor in shop.checkpoint().states["learner"].tensors.items():
        assert torch.equal(tensor, other.tensors[name]), name


def end_reached(facts):
    return facts.n_returns == 1 and facts.position >= END - BATCH


@pytest.mark.slow
def test_a_poisoned_range_ends_in_a_return_and_later_learning_is_as_if_it_had_never_been(shop, log):
    shop.produce(*log)
    messages = shop.run(end_reached)
    assert messages[-1] == Ended(0)
    starts = [place for place, message in enumerate(messages) if isinstance(message, Started)]
    assert [messages[place].n_returns for place in starts] == [0, 1]
    first, then = (messages[place] for place in starts)
    assert then.lineage != first.lineage
    assert then.position <= shop.guard().returns[0].start
    after = [message for message in messages[starts[1] :] if isinstance(message, Updated)]
    assert [update.full for update in after] == [True] + [False] * (len(after) - 1)
    assert all(n >= 0 for message in messages if isinstance(message, Facts) for n in message.new_examples.values())
    assert_as_if_never_seen(shop, log)
    # A copy of what was left out, as a scorer republishes it, is known.
    shop.produce(*log[HARM_FROM + 200 : HARM_FROM + 300])
    shop.run(lambda facts: facts.position >= END + 100 - BATCH)
    assert shop.counts()["duplicate"] >= 100 - BATCH
    assert shop.guard().n_returns == 1


KILLS = {
    "decided": "kill_after(stream.guarding.Guarding, '_sentence')",
    "position": "kill_after(stream.example_log.ExampleLog, 'commit')",
    "renamed": "kill_after(stream.checkpoint_writer, 'save')",
}
PLANT = """
import os, signal
import stream.checkpoint_writer, stream.example_log, stream.guarding, stream.trainer
returning = []
_write = stream.trainer._Run._return
def _return(self, sentence):
    returning.append(1)
    return _write(self, sentence)
stream.trainer._Run._return = _return
def kill_after(owner, name):
    original = getattr(owner, name)
    def faulty(*arguments, **named):
        result = original(*arguments, **named)
        if returning or name == "_sentence":
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, faulty)
"""


@pytest.mark.slow
def test_a_return_survives_a_kill_at_any_line(shop, log):
    """Killed when it was decided, when its position is committed, when it is renamed: always the same outcome."""
    shop.produce(*log)
    for kill in KILLS.values():
        process = shop.start(patch=PLANT + kill)
        assert process.wait(120) == -signal.SIGKILL
        before = shop.guard().n_returns
    assert before == 1  # the last kill came when the return was there
    process = shop.start()
    position, resumed_from = next(lines(process, "started"))
    assert resumed_from == paths(shop.folder / "checkpoints")[-1].name
    assert position <= shop.guard().returns[0].start
    wait_until(process, END - BATCH)
    assert stop(process)[0] == ["ended", 0, ""]
    assert_as_if_never_seen(shop, log)


def broken_by(item, monkeypatch):
    """Let a step on an item leave a weight that is not finite: nothing in the step says so."""
    from online_model.learner import OnlineLearner

    learn = OnlineLearner.learn

    def breaking(self, examples):
        report = learn(self, examples)
        if any(one.item == item for one in examples):
            self._recurrent.table.vectors[0, 0] = float("nan")
            self._touch(torch.tensor([0]).numpy())
        return report

    monkeypatch.setattr(OnlineLearner, "learn", breaking)


def test_weights_that_are_not_finite_go_back_at_once(shop, log, monkeypatch):
    broken_by("bad", monkeypatch)
    shop.produce(*log[: 8 * BATCH])
    shop.run(lambda facts: facts.position == 8 * BATCH)
    bad = renamed(log[8 * BATCH])
    shop.produce(bad, *log[8 * BATCH + 1 : 16 * BATCH])
    messages = shop.run(lambda facts: facts.n_returns == 1 and facts.position >= 15 * BATCH)
    assert messages[-1] == Ended(0)
    (decided,) = shop.guard().returns
    assert decided.reason == "non-finite"
    assert decided.start == 8 * BATCH
    assert shop.counts()["quarantined"] == decided.end - decided.start
    assert shop.counts()["learned"] == shop.checkpoint().cut.position - shop.counts()["quarantined"]
    assert newest(shop.folder / "checkpoints").skipped == []


def test_without_a_checkpoint_broken_weights_end_the_trainer(shop, log, monkeypatch):
    broken_by("bad", monkeypatch)
    bad = renamed(log[0])
    shop.produce(*log[1:BATCH], bad)
    messages = []
    settings = shop.settings(checkpoint_interval_seconds=1000)
    Trainer(settings, shop.identity, "one", messages.append).run(threading.Event())
    assert messages[-1].exit_code == 70
    assert paths(shop.folder / "checkpoints") == []


def renamed(value):
    return encode_example(msgspec.structs.replace(decode_example(value), item="bad"))
