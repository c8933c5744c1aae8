"""What followed the item one is on: a first-order Markov chain, filled up with what is popular."""

from collections.abc import Iterable, Sequence

import torch

from online_model.config import ModelConfig
from online_model.lessons import TARGETS, check
from online_model.popular import Retrieved, excluded_rows, present
from online_model.protocol import Context, Example, LearnReport, Ranked, Request, State
from online_model.sightings import Sightings
from online_model.states import check_kind, missing_parts_named

MAX_FOLLOWERS = 256
"""Followers kept for one item: the least often seen, the oldest of them first, leave beyond that."""


class MarkovLearner:
    """Counts of what followed what; see `Learner`.

    An item that nobody has followed yet, or that has left the vocabulary, leaves the list to popularity.
    """

    kind = "markov"

    def __init__(self, config: ModelConfig | None = None, *, max_followers: int = MAX_FOLLOWERS) -> None:
        self.config = config or ModelConfig()
        self._max_followers = max_followers
        self._sightings = Sightings(self.config)
        # Rows to rows; a row's own counts and all mentions of it go with its tenant.
        self._followers: dict[int, dict[int, float]] = {}
        self._leaders: dict[int, set[int]] = {}

    @property
    def n_items(self) -> int:
        """Live items."""
        return len(self._sightings.vocabulary)

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranked]:
        """Answer requests; see `Recommender`."""
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        longest = max((len(self._row_of(request)) for request in requests), default=0)
        popular = self._sightings.popular.retrieve(requests, k + longest)
        index = self._sightings.vocabulary.index
        return [
            present(index, request, self._fill(self._listed(request), rest, k))
            for request, rest in zip(requests, popular, strict=True)
        ]

    def rank(self, requests: Sequence[Request], targets: Sequence[str]) -> list[int]:
        """Rank targets in the whole catalogue; see `Recommender`."""
        rows = self._sightings.vocabulary.index.rows
        return [
            self._rank(request, rows[target]) if target in rows and target not in request.exclude else 0
            for request, target in zip(requests, targets, strict=True)
        ]

    def learn(self, examples: Sequence[Example]) -> LearnReport:
        """Count the pairs of a mini-batch; see `Learner`."""
        check(examples)
        plan = self._sightings.learn(examples)
        for row in plan.evicted.values():
            self._forget(row)
        n_pairs = sum(self._count(example) for example in examples if example.role in TARGETS)
        return LearnReport(len(examples), n_pairs, None, len(plan.births), self.n_items)

    def state(self) -> State:
        """Return a copy of everything; see `Learner`."""
        state = self._sightings.state()
        pairs = [(row, follower) for row, row_of in self._followers.items() for follower in row_of]
        counts = [count for row_of in self._followers.values() for count in row_of.values()]
        # In the order in which they were counted, which decides who leaves first.
        state.tensors["pairs"] = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
        state.tensors["pair_counts"] = torch.tensor(counts, dtype=torch.float64)
        state.metadata |= {"kind": self.kind, "config": self.config.to_mapping()}
        return state

    def load_state(self, state: State) -> None:
        """Become the learner that `state` was taken from; see `Learner`."""
        check_kind(state, self.kind)
        fresh = MarkovLearner(self.config, max_followers=self._max_followers)
        fresh._sightings.load_state(state)
        with missing_parts_named():
            pairs, counts = state.tensors["pairs"].tolist(), state.tensors["pair_counts"].tolist()
        for (row, follower), count in zip(pairs, counts, strict=True):
            fresh._followers.setdefault(row, {})[follower] = count
            fresh._leaders.setdefault(follower, set()).add(row)
        self.__dict__.update(fresh.__dict__)

    def _current(self, context: Context) -> int:
        """Row of the item that the user is on, -1 where there is none that is known."""
        if context.sitting >= len(context.history):
            return -1
        return self._sightings.vocabulary.index.rows.get(context.history[-1][0], -1)

    def _row_of(self, request: Request) -> dict[int, float]:
        return self._followers.get(self._current(request.context), {})

    def _weights(self, rows: Iterable[int]) -> dict[int, float]:
        weights = self._sightings.counts.weights(self.n_items)
        return {row: float(weights[row]) for row in rows}

    def _listed(self, request: Request) -> list[tuple[int, float]]:
        """The followers that may be listed, best first: by count, then by popularity, then by age of the row."""
        excluded = set(excluded_rows(self._sightings.vocabulary.index, request))
        counts = {row: count for row, count in self._row_of(request).items() if row not in excluded}
        weights = self._weights(counts)
        order = sorted(counts, key=lambda row: (-counts[row], -weights[row], row))
        return [(row, counts[row]) for row in order]

    @staticmethod
    def _fill(listed: list[tuple[int, float]], popular: Retrieved, k: int) -> Retrieved:
        known = {row for row, _ in listed}
        rest = [(row, score) for row, score in zip(popular.rows, popular.scores, strict=True) if row not in known]
        pairs = [*listed, *rest][:k]
        sources = ["transitions"] * len(listed) + ["popular"] * len(rest)
        return Retrieved([row for row, _ in pairs], [score for _, score in pairs], sources[:k])

    def _rank(self, request: Request, target: int) -> int:
        followers = self._listed(request)
        counts = dict(followers)
        weights = self._weights(counts)
        own = float(self._sightings.counts.weights(self.n_items)[target])
        if target in counts:
            return sum((count, weights[row]) >= (counts[target], own) for row, count in followers)
        # Behind all followers, and behind the others that are as popular.
        return len(followers) + self._sightings.popular.rank(request, target) - sum(w >= own for w in weights.values())

    def _count(self, example: Example) -> bool:
        row = self._current(example.context)
        follower = self._sightings.vocabulary.index.rows.get(example.item or "", -1)
        if row < 0 or follower < 0 or row == follower or example.weight == 0:
            return False
        followers = self._followers.setdefault(row, {})
        # The latest counted stands last.
        followers[follower] = followers.pop(follower, 0.0) + float(example.weight)
        self._leaders.setdefault(follower, set()).add(row)
        if len(followers) > self._max_followers:
            # Of those before the newcomer, which would else never get in.
            self._drop(row, min(list(followers)[:-1], key=followers.__getitem__))
        return True

    def _forget(self, row: int) -> None:
        """Drop all counts of a row that gets a new tenant."""
        for follower in list(self._followers.get(row, ())):
            self._drop(row, follower)
        for leader in list(self._leaders.get(row, ())):
            self._drop(leader, row)

    def _drop(self, row: int, follower: int) -> None:
        followers, leaders = self._followers[row], self._leaders[follower]
        del followers[follower]
        leaders.discard(row)
        if not followers:
            del self._followers[row]
        if not leaders:
            del self._leaders[follower]
