"""Which examples were learned: what makes learning happen exactly once.

A batch that was published but not committed is published again, so an example may stand in the log twice. The ledger
travels inside the checkpoint with the weights, so the two never disagree about what was learned.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch

from online_model.protocol import State

WINDOW = 65_536
"""Offsets of one source that are remembered one by one: the highest and those just below it."""

Source: TypeAlias = tuple[str, int]
"""Where examples come from: tag of the topic's id, partition."""

Outcome: TypeAlias = Literal["learned", "sampled_out", "quarantined", "duplicate"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(slots=True)
class _Window:
    """A ring of bits over offsets; bit `offset % WINDOW` belongs to one of `highest - WINDOW + 1 .. highest`."""

    highest: int
    bits: bytearray

    def known(self, offset: int) -> bool:
        if offset > self.highest:
            return False
        if offset <= self.highest - WINDOW:
            return True
        place = offset % WINDOW
        return bool(self.bits[place >> 3] >> (place & 7) & 1)

    def add(self, offset: int) -> None:
        if offset > self.highest:
            self._advance(offset)
        elif offset <= self.highest - WINDOW:
            return
        place = offset % WINDOW
        self.bits[place >> 3] |= 1 << (place & 7)

    def _advance(self, highest: int) -> None:
        if highest - self.highest >= WINDOW:
            self.bits[:] = bytes(len(self.bits))
        else:
            for offset in range(self.highest + 1, highest):
                place = offset % WINDOW
                self.bits[place >> 3] &= ~(1 << (place & 7))
        self.highest = highest


class Ledger:
    """Remembers the outcome of every distinct example, exactly, in 8 KiB a source partition.

    What lies below the window counts as known. That is right because a partition has one publisher at a time, which
    publishes in the order of offsets and starts again at the last committed one: whatever comes that far behind the
    highest offset has been published before. Only batches in flight when a partition changed hands can interleave,
    and they are smaller than the window.

    >>> ledger = Ledger()
    >>> ledger.add(("t", 0), 7, "learned")
    >>> ledger.fresh(("t", 0), 7), ledger.fresh(("t", 0), 6), ledger.fresh(("t", 1), 7)
    (False, True, True)
    """

    def __init__(self) -> None:
        self._windows: dict[Source, _Window] = {}
        self._counts: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)

    @property
    def counts(self) -> dict[str, int]:
        """Examples by outcome; learned, sampled_out and quarantined add up to the distinct ones."""
        return {str(outcome): n for outcome, n in self._counts.items()}

    def fresh(self, source: Source, offset: int) -> bool:
        """Return whether the example at `offset` of `source` has no outcome yet."""
        window = self._windows.get(source)
        return window is None or not window.known(offset)

    def add(self, source: Source, offset: int, outcome: Literal["learned", "sampled_out", "quarantined"]) -> None:
        """Record what became of a fresh example.

        Raises:
            ValueError: It already has an outcome, or the offset is negative.
        """
        if offset < 0:
            raise ValueError(f"expected an offset of at least 0, got {offset}")
        if not self.fresh(source, offset):
            raise ValueError(f"the example at offset {offset} of {source} already has an outcome")
        self._windows.setdefault(source, _Window(-1, bytearray(WINDOW // 8))).add(offset)
        self._counts[outcome] += 1

    def count(self, outcome: Literal["quarantined", "duplicate"], n: int = 1) -> None:
        """Count what cannot be told apart by its source: a known example, or a record that names none."""
        self._counts[outcome] += n

    def state(self) -> State:
        """Return a copy of everything: `highest` int64 [sources], `bits` uint8 [sources, WINDOW / 8]."""
        windows = list(self._windows.values())
        bits = torch.frombuffer(bytearray(b"".join(w.bits for w in windows)) or bytearray(1), dtype=torch.uint8)
        return State(
            {
                "highest": torch.tensor([w.highest for w in windows], dtype=torch.int64),
                "bits": bits[: len(windows) * WINDOW // 8].reshape(len(windows), WINDOW // 8).clone(),
            },
            {"sources": [list(source) for source in self._windows], "counts": dict(self._counts)},
        )

    def load_state(self, state: State) -> None:
        """Become the ledger that `state` was taken from.

        Raises:
            ValueError: Its windows have another size.
        """
        bits = state.tensors["bits"]
        if bits.shape[1] * 8 != WINDOW:
            raise ValueError(f"the saved ledger remembers {bits.shape[1] * 8} offsets a source, expected {WINDOW}")
        sources, counts = state.metadata["sources"], state.metadata["counts"]
        if not isinstance(sources, list) or not isinstance(counts, dict):
            raise ValueError("the saved ledger names no sources or counts")
        highest: list[int] = state.tensors["highest"].tolist()
        self._windows = {
            (tag, partition): _Window(top, bytearray(row.numpy().tobytes()))
            for (tag, partition), top, row in zip(sources, highest, bits, strict=True)
        }
        self._counts = {outcome: int(counts[outcome]) for outcome in OUTCOMES}
