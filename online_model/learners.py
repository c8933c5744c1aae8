"""Every learner by name."""

from collections.abc import Callable, Mapping

from online_model.baselines.markov import MarkovLearner
from online_model.baselines.popularity import PopularityLearner
from online_model.config import ModelConfig
from online_model.learner import GRULearner
from online_model.protocol import Learner

LEARNERS: Mapping[str, Callable[[ModelConfig], Learner]] = {
    GRULearner.kind: GRULearner,
    PopularityLearner.kind: PopularityLearner,
    MarkovLearner.kind: MarkovLearner,
}


def build(kind: str, config: ModelConfig) -> Learner:
    """Return an empty learner.

    Raises:
        ValueError: There is no such learner.
    """
    if kind not in LEARNERS:
        raise ValueError(f"model must be one of {', '.join(LEARNERS)}, not {kind!r}")
    return LEARNERS[kind](config)
