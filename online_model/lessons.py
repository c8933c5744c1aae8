"""From examples to what a gradient step needs: checked, and as vocabulary rows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import get_args

from online_model.protocol import Context, Example, Role

TARGETS = ("interest", "strong")
_ROLES = frozenset(get_args(Role))


def check(examples: Sequence[Example]) -> None:
    """Refuse a batch with a malformed example.

    Raises:
        ValueError: The message names the example by its place, what was expected and what was there.
    """
    for place, example in enumerate(examples):
        context = example.context
        if example.role not in _ROLES:
            _refuse(place, f"role must be one of {', '.join(sorted(_ROLES))}", example.role)
        if not isinstance(example.item, str) and (example.item is not None or example.role in (*TARGETS, "negative")):
            _refuse(place, f"an example of role {example.role} needs an item id", example.item)
        if example.item is not None:
            _check_id(place, example.item)
        if not 0 <= context.sitting <= len(context.history):
            _refuse(place, f"sitting must be within the history, 0 to {len(context.history)}", context.sitting)
        if not (isinstance(example.weight, int | float) and math.isfinite(example.weight) and example.weight >= 0):
            _refuse(place, "weight must be a finite number of at least 0", example.weight)
        if not (math.isfinite(example.importance) and example.importance >= 0):
            _refuse(place, "importance must be a finite number of at least 0", example.importance)
        for visit in context.history:
            if not (isinstance(visit, tuple) and len(visit) == 3 and isinstance(visit[0], str)):
                _refuse(place, "a visit must be (item id, behaviour, milliseconds)", visit)


def _check_id(place: int, item: str) -> None:
    try:
        size = len(item.encode())
    except UnicodeEncodeError:
        size = 0
    if not size:
        _refuse(place, "an item id must be text of at least one character that UTF-8 can hold", item)


def _refuse(place: int, expected: str, actual: object) -> None:
    raise ValueError(f"example {place}: {expected}, not {actual!r}")


@dataclass(slots=True)
class Lessons:
    """Sequences with what followed them, as rows; targets first, then what people turned away from.

    Attributes:
        sequences: Rows of the items before, none empty.
        items: Row of the item that came.
        weights: Weight of each lesson.
        places: Where in the batch each lesson's example stands.
        n_targets: How many of them are targets.
    """

    sequences: list[list[int]] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    n_targets: int = 0

    def currents(self) -> list[int]:
        """Return the item that each sequence ends with."""
        return [sequence[-1] for sequence in self.sequences]


def read(examples: Sequence[Example], row: Callable[[str], int], inputs: Callable[[Context], list[int]]) -> Lessons:
    """Return the lessons in a batch of checked examples.

    Args:
        examples: In the order in which they happened.
        row: The row of an item id, -1 where it has none.
        inputs: The rows of a context's items that the model sees.
    """
    lessons, turned_away = Lessons(), Lessons()
    for place, example in enumerate(examples):
        if example.item is None or not (example.role in TARGETS or example.role == "negative"):
            continue
        item, sequence = row(example.item), inputs(example.context)
        weight = example.weight * example.importance
        if item < 0 or not sequence or weight == 0:
            continue
        into = lessons if example.role in TARGETS else turned_away
        into.sequences.append(sequence)
        into.items.append(item)
        into.weights.append(float(weight))
        into.places.append(place)
    lessons.n_targets = len(lessons.items)
    lessons.sequences += turned_away.sequences
    lessons.items += turned_away.items
    lessons.weights += turned_away.weights
    lessons.places += turned_away.places
    return lessons
