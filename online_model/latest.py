"""The latest targets: a ring of rows that negatives may be drawn from, so often as people turned to them of late."""

import numpy as np
import torch
from torch import Generator

from online_model.vocabulary import Rows

KEPT = 10_000
"""Targets that are remembered."""


class LatestRows:
    """Rows in the order in which they were targets, the latest `KEPT` of them; a row may stand there several times.

    A row that gets a new tenant stays: then its tenant is drawn, which is as good a negative as any.
    """

    def __init__(self) -> None:
        self._rows = np.zeros(KEPT, np.int64)
        self._n_seen = 0

    def add(self, rows: Rows) -> None:
        """Remember rows, int64 [n]."""
        rows = rows[-KEPT:]
        places = (self._n_seen + np.arange(len(rows))) % KEPT
        self._rows[places] = rows
        self._n_seen += len(rows)

    def draw(self, n: int, generator: Generator) -> Rows:
        """Return rows drawn with replacement, int64 [n]; none where nothing is remembered."""
        known = min(self._n_seen, KEPT)
        if not (known and n):
            return np.zeros(0, np.int64)
        return self._oldest_first(torch.randint(known, (n,), generator=generator).numpy())

    def state(self) -> torch.Tensor:
        """Return what is remembered, oldest first, int64 [at most `KEPT`]."""
        return torch.from_numpy(self._oldest_first(np.arange(min(self._n_seen, KEPT))))

    def load_state(self, rows: torch.Tensor) -> None:
        """Become the ring that `rows` was taken from."""
        self._n_seen = 0
        self.add(rows.numpy())

    def _oldest_first(self, numbers: Rows) -> Rows:
        """The rows with these numbers, counted from the oldest: where the ring was cut does not show."""
        rows: Rows = self._rows[(max(0, self._n_seen - KEPT) + numbers) % KEPT]
        return rows
