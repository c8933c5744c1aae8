"""The published simple methods as learners, all incremental, each a source of candidates by itself."""

from online_model.baselines.sourced import SourceLearner
from online_model.candidates.factors import Factors
from online_model.candidates.neighbours import Neighbours
from online_model.candidates.own import OwnItems
from online_model.candidates.pairs import PairCounts
from online_model.config import ModelConfig

_FOLLOWERS = 128
_SITTINGS, _SITTINGS_PER_ITEM = 1 << 17, 8


def markov(config: ModelConfig) -> SourceLearner:
    """A first-order Markov chain: what came directly after the item one is on."""
    return SourceLearner("markov", config, PairCounts(_FOLLOWERS), (1.0, 0.0, 0.0))


def rules(config: ModelConfig) -> SourceLearner:
    """Sequential rules from the item one is on and, at half the weight, from those before it."""
    return SourceLearner("rules", config, PairCounts(_FOLLOWERS), (0.0, 1.0, 0.5), label="rules")


def vsknn(config: ModelConfig) -> SourceLearner:
    """Vector multiplication session-based kNN."""
    return SourceLearner("vsknn", config, _neighbours(config), (1.0, 0.0))


def stan(config: ModelConfig) -> SourceLearner:
    """Sequence- and time-aware neighbourhood."""
    return SourceLearner("stan", config, _neighbours(config), (0.0, 1.0))


def mf(config: ModelConfig) -> SourceLearner:
    """Item-item matrix factorisation."""
    return SourceLearner("mf", config, Factors(seed=config.seed), (1.0,))


def history(config: ModelConfig) -> SourceLearner:
    """What the user turned to most often."""
    return SourceLearner("history", config, OwnItems(), (1.0,))


def _neighbours(config: ModelConfig) -> Neighbours:
    # Few items need few sittings, and memory keeps to the ceiling of the vocabulary.
    return Neighbours(min(_SITTINGS, _SITTINGS_PER_ITEM * config.max_items))
