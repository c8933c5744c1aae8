"""Lists of what is popular now: the answer where nothing better is known, and a baseline of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from online_model.counts import FadingCounts
from online_model.protocol import Ranked, Request
from online_model.scoring import top_k
from online_model.vocabulary import RowIndex


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Items for one request, best first, as rows; otherwise as `Ranked`."""

    rows: list[int]
    scores: list[float]
    sources: list[str]
    probabilities: list[float] | None = None
    signals: npt.NDArray[np.float32] | None = None


def excluded_rows(index: RowIndex, request: Request) -> list[int]:
    """Return the rows that may not stand in the answer to a request."""
    return [index.rows[item] for item in request.exclude if item in index.rows]


def present(index: RowIndex, request: Request, retrieved: Retrieved) -> Ranked:
    """Return candidates as the list that is shown."""
    items = [index.ids[row] for row in retrieved.rows]
    n_candidates = len(index) - len(excluded_rows(index, request))
    return Ranked(items, retrieved.scores, retrieved.sources, n_candidates, retrieved.probabilities, retrieved.signals)


class Popular:
    """Answers from fading counts alone.

    Attributes:
        index: Item id <-> row; whoever replaces it on the owner replaces it here.
    """

    def __init__(self, index: RowIndex, counts: FadingCounts) -> None:
        self.index = index
        self._counts = counts

    def retrieve(self, requests: Sequence[Request], n: int) -> list[Retrieved]:
        """Return the most popular `n` items for each request, its excluded ones left out; ties by age of the row."""
        if not requests:
            return []
        excluded = [frozenset(excluded_rows(self.index, request)) for request in requests]
        n_wanted = n + max(map(len, excluded))
        rows = self._counts.top(len(self.index), n_wanted)
        weights = self._counts.weights(len(self.index))
        if len(rows) < n_wanted:
            # Lists are full as long as there are items, sighted of late or not.
            rows = top_k(torch.from_numpy(weights)[None], n_wanted)[1][0].numpy()
        pairs = list(zip(rows.tolist(), (weights[rows] * self._counts.now()).tolist(), strict=True))
        return [_list([pair for pair in pairs if pair[0] not in left_out][:n]) for left_out in excluded]

    def rank(self, request: Request, row: int) -> int:
        """Return the 1-based place of a row that may be listed; ties count against it."""
        weights = self._counts.weights(len(self.index))
        above = int((weights >= weights[row]).sum())
        return above - sum(bool(weights[other] >= weights[row]) for other in excluded_rows(self.index, request))


def _list(pairs: Sequence[tuple[int, float]]) -> Retrieved:
    return Retrieved([row for row, _ in pairs], [score for _, score in pairs], ["popular"] * len(pairs))
