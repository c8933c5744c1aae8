"""A user's own items: what they turned to most often."""

import numpy as np

from online_model.candidates.queries import Occurrences, Queries
from online_model.candidates.sparse import SparseScores
from online_model.protocol import State
from online_model.vocabulary import Rows


class OwnItems:
    """The items of each query's whole history by how often they stand there; see `CandidateSource`.

    Of equally frequent items the later counts more. There is nothing to keep, since the query says it all.

    Source: "personal top frequency" in Hu et al. 2020, arXiv:2006.00556, section 5.
    """

    name = "history"
    signals = ("visits",)

    def score(self, queries: Queries) -> SparseScores:
        """Count each query's items; see `CandidateSource`."""
        starts, rows, values = [0], list[int](), list[float]()
        bounds = zip(queries.older_starts, queries.older_starts[1:], queries.starts, queries.starts[1:], strict=False)
        for older_start, older_end, start, end in bounds:
            history = np.concatenate([queries.older[older_start:older_end], queries.rows[start:end]])
            counts: dict[int, float] = {}
            for place, row in enumerate(history.tolist(), 1):
                # Places add less than one visit does.
                counts[row] = int(counts.get(row, 0)) + 1 + place / (len(history) + 1)
            rows += counts
            values += counts.values()
            starts.append(len(rows))
        return SparseScores(
            np.array(starts, np.int64), np.array(rows, np.int32), np.array(values, np.float32).reshape(-1, 1)
        )

    def fold(self, occurrences: Occurrences) -> None:
        """Keep nothing; see `CandidateSource`."""

    def forget(self, rows: Rows) -> None:
        """Forget nothing; see `CandidateSource`."""

    def state(self, n_rows: int) -> State:
        """Return nothing; see `CandidateSource`."""
        return State()

    def load_state(self, state: State) -> None:
        """Take nothing over; see `CandidateSource`."""
