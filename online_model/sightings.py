"""Which items there are and how often they were seen lately: what every counting learner begins with."""

from collections.abc import Sequence

import numpy as np
import torch

from online_model.config import ModelConfig
from online_model.counts import FadingCounts
from online_model.lessons import TARGETS
from online_model.popular import Popular
from online_model.protocol import Example, State
from online_model.states import missing_parts_named
from online_model.vocabulary import Plan, Vocabulary

_VOCABULARY = "vocabulary."


def sighted(examples: Sequence[Example]) -> list[str]:
    """Return the items of a batch that people took: those that may enter the vocabulary."""
    return [example.item for example in examples if example.role in TARGETS and example.item is not None]


class Sightings:
    """A vocabulary with fading counts.

    Attributes:
        vocabulary: The items.
        counts: Their weights, by row.
        popular: The lists that follow from these.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.vocabulary = Vocabulary(config.max_items, config.admit_after, config.probation_share)
        self.counts = FadingCounts(config.popularity_half_life)
        self.popular = Popular(self.vocabulary.index, self.counts)

    def learn(self, examples: Sequence[Example]) -> Plan:
        """Count the items of a batch of checked examples; return what that did to the vocabulary."""
        plan = self.vocabulary.plan(sighted(examples))
        self.vocabulary.commit(plan)
        self.counts.clear(np.fromiter(plan.births.values(), np.int64))
        rows = [self.vocabulary.index.rows.get(item, -1) for item in plan.sighted]
        self.counts.sight(np.array([row for row in rows if row >= 0], np.int64))
        return plan

    def state(self) -> State:
        """Return a copy of everything."""
        ids = self.vocabulary.state()
        tensors = {_VOCABULARY + name: tensor for name, tensor in ids.tensors.items()}
        tensors["counts"] = torch.from_numpy(self.counts.weights(len(self.vocabulary)).copy())
        return State(tensors, {"vocabulary": ids.metadata, "counts": self.counts.facts()})

    def load_state(self, state: State) -> None:
        """Fill these fresh sightings from a state.

        Raises:
            ValueError: It lacks a part, or holds more items than these may.
        """
        names = {name.removeprefix(_VOCABULARY): t for name, t in state.tensors.items() if name.startswith(_VOCABULARY)}
        ids, counts = state.metadata.get("vocabulary"), state.metadata.get("counts")
        if not isinstance(ids, dict) or not isinstance(counts, dict):
            raise ValueError("the saved model lacks facts about vocabulary and counts")
        with missing_parts_named():
            self.vocabulary.load_state(State(names, ids))
            self.counts.write(np.arange(len(self.vocabulary)), state.tensors["counts"].numpy(), counts)
        self.popular.index = self.vocabulary.index
