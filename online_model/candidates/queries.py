"""Contexts, and what followed them, as arrays of vocabulary rows: the form in which sources of candidates see them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from online_model.protocol import Context, Example, Visit

Ints = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]

_LONGEST_PAUSE_SECONDS = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Queries:
    """Contexts as rows.

    Attributes:
        starts: Where each query's part of `rows` begins, and the end of the last, int64 [n + 1].
        rows: Known items of the current sitting, oldest first.
        older_starts: As `starts`, for `older`.
        older: Known items of earlier sittings, oldest first.
        visits: A key of the last visit of the sitting, the same wherever that visit is seen; 0 where there is none.
        pauses: Seconds from the last visit to the request, 0 where there is none, float32 [n].
    """

    starts: Offsets
    rows: Ints
    older_starts: Offsets
    older: Ints
    visits: Keys
    pauses: Floats

    def __len__(self) -> int:
        return len(self.visits)


@dataclass(frozen=True, slots=True)
class Occurrences:
    """What people turned to, in the order in which it happened, and from where.

    Attributes:
        queries: The contexts, one for each.
        items: Row of the item that came, int32 [n].
        visits: The key that this visit has as the last one of the next context.
        weights: float32 [n].
    """

    queries: Queries
    items: Ints
    visits: Keys
    weights: Floats

    def __len__(self) -> int:
        return len(self.items)


def queries(contexts: Sequence[Context], row: Callable[[str], int]) -> Queries:
    """Translate contexts; ids without a row (`row` returns -1) are left out."""
    sittings, older, last_rows, last_times, pauses = [], [], [], [], []
    for context in contexts:
        history, sitting = context.history, context.sitting
        sittings.append(_known(history[sitting:], row))
        older.append(_known(history[:sitting], row))
        if sitting < len(history):
            last = history[-1]
            last_rows.append(row(last[0]))
            last_times.append(last[2])
            pauses.append(min(max(context.now - last[2], 0) / 1000.0, _LONGEST_PAUSE_SECONDS))
        else:
            last_rows.append(-1)
            last_times.append(0)
            pauses.append(0.0)
    starts, rows = _joined(sittings)
    older_starts, older_rows = _joined(older)
    visits = visit_keys(np.array(last_rows, np.int64), np.array(last_times, np.int64))
    return Queries(starts, rows, older_starts, older_rows, visits, np.array(pauses, np.float32))


def occurrences(examples: Sequence[Example], row: Callable[[str], int]) -> Occurrences:
    """Translate what people turned to; an item without a row has row -1."""
    items = np.array([-1 if example.item is None else row(example.item) for example in examples], np.int32)
    times = np.array([example.context.now for example in examples], np.int64)
    return Occurrences(
        queries([example.context for example in examples], row),
        items,
        visit_keys(items.astype(np.int64), times),
        np.array([example.weight for example in examples], np.float32),
    )


def visit_keys(rows: npt.NDArray[np.int64], times: npt.NDArray[np.int64]) -> Keys:
    """Return a key for each visit to a row at a time in milliseconds; 0 for row -1.

    Two people who turn to one item in the same millisecond share a key: rare, and harmless to counts.
    """
    mixed = (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= times.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed ^= mixed >> np.uint64(29)
    return np.where(rows < 0, np.uint64(0), mixed | np.uint64(1))


def _known(visits: Sequence[Visit], row: Callable[[str], int]) -> list[int]:
    return [found for visit in visits if (found := row(visit[0])) >= 0]


def _joined(parts: list[list[int]]) -> tuple[Offsets, Ints]:
    starts = np.fromiter(accumulate(map(len, parts), initial=0), np.int64, len(parts) + 1)
    return starts, np.array([row for part in parts for row in part], np.int32)
