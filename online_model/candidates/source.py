"""What every source of candidates speaks."""

from typing import Protocol

from online_model.candidates.queries import Occurrences, Queries
from online_model.candidates.sparse import SparseScores
from online_model.protocol import State
from online_model.vocabulary import Rows


class CandidateSource(Protocol):
    """Incremental knowledge by vocabulary row: asked for scores, told what happened.

    Attributes:
        name: What a candidate's `source` says.
        signals: Names of the columns of its scores.
    """

    @property
    def name(self) -> str:
        """See above."""
        ...

    @property
    def signals(self) -> tuple[str, ...]:
        """See above."""
        ...

    def score(self, queries: Queries) -> SparseScores:
        """Return what is known for each query; changes nothing."""
        ...

    def fold(self, occurrences: Occurrences) -> None:
        """Take in what happened, in order."""
        ...

    def forget(self, rows: Rows) -> None:
        """Drop all knowledge of and about rows that get a new tenant, int64 [n]."""
        ...

    def state(self, n_rows: int) -> State:
        """Return a copy of everything that is known about the first rows."""
        ...

    def load_state(self, state: State) -> None:
        """Become the source that `state` was taken from.

        Raises:
            ValueError: The state lacks a part, or is that of another size.
        """
        ...
