"""What is popular now, the same for everybody."""

from collections.abc import Sequence

from online_model.config import ModelConfig
from online_model.lessons import check
from online_model.popular import present
from online_model.protocol import Example, LearnReport, Ranked, Request, State
from online_model.sightings import Sightings
from online_model.states import check_kind


class PopularityLearner:
    """Counts that fade; see `Learner`."""

    kind = "popularity"

    def __init__(self, config: ModelConfig | None = None) -> None:
        self.config = config or ModelConfig()
        self._sightings = Sightings(self.config)

    @property
    def n_items(self) -> int:
        """Live items."""
        return len(self._sightings.vocabulary)

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranked]:
        """Answer requests; see `Recommender`."""
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        index = self._sightings.vocabulary.index
        found = self._sightings.popular.retrieve(requests, k)
        return [present(index, request, retrieved) for request, retrieved in zip(requests, found, strict=True)]

    def rank(self, requests: Sequence[Request], targets: Sequence[str]) -> list[int]:
        """Rank targets in the whole catalogue; see `Recommender`."""
        rows = self._sightings.vocabulary.index.rows
        return [
            self._sightings.popular.rank(request, rows[target])
            if target in rows and target not in request.exclude
            else 0
            for request, target in zip(requests, targets, strict=True)
        ]

    def learn(self, examples: Sequence[Example]) -> LearnReport:
        """Count the items of a mini-batch; see `Learner`."""
        check(examples)
        plan = self._sightings.learn(examples)
        return LearnReport(len(examples), 0, None, len(plan.births), self.n_items)

    def state(self) -> State:
        """Return a copy of everything; see `Learner`."""
        state = self._sightings.state()
        state.metadata |= {"kind": self.kind, "config": self.config.to_mapping()}
        return state

    def load_state(self, state: State) -> None:
        """Become the learner that `state` was taken from; see `Learner`."""
        check_kind(state, self.kind)
        sightings = Sightings(self.config)
        sightings.load_state(state)
        self._sightings = sightings
