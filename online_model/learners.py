"""Every learner by name."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from online_model.baselines.popularity import PopularityLearner
from online_model.baselines.simple import history, markov, mf, rules, stan, vsknn
from online_model.config import ModelConfig
from online_model.learner import OnlineLearner
from online_model.protocol import Learner

DEFAULT = "two-stage"
"""What the worker serves."""


def _first_stage(config: ModelConfig) -> Learner:
    return OnlineLearner(replace(config, ranking="none"))


LEARNERS: Mapping[str, Callable[[ModelConfig], Learner]] = {
    DEFAULT: OnlineLearner,
    "gru": _first_stage,
    PopularityLearner.kind: PopularityLearner,
    "markov": markov,
    "rules": rules,
    "vsknn": vsknn,
    "stan": stan,
    "mf": mf,
    "history": history,
}


def build(kind: str, config: ModelConfig) -> Learner:
    """Return an empty learner.

    Raises:
        ValueError: There is no such learner.
    """
    if kind not in LEARNERS:
        raise ValueError(f"model must be one of {', '.join(LEARNERS)}, not {kind!r}")
    return LEARNERS[kind](config)
