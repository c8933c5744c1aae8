"""`GET /recommendations/{user_id}`: scored now, with the live weights and the user's newest state."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import NamedTuple, TypeAlias

from ulid import ULID

from online_model.protocol import Ranked, Recommender, Request
from online_model.serving import ServingModel
from stream.lookup import Elsewhere, LookupAnswer, NotReady, found
from stream.owners import Owners
from stream.pipeline import Pipeline
from stream.records import Recommendation
from stream.scorer import POLICY, VARIANT, Scorer, recommended_items
from stream.serving import Serving
from stream.settings import Exclusion
from stream.state import UserState
from stream.users import home_partition

MAX_TOGETHER = 64
"""Look-ups scored in one go; the events that wait for the same thread come between two rounds."""

_Result: TypeAlias = tuple[Ranked, int]


class _Wanted(NamedTuple):
    state: UserState
    exclude: Exclusion | None
    k: int
    answer: asyncio.Future[_Result]


class Lookups:
    """Answers look-ups together: what was asked for while the compute thread was busy is scored in one go.

    A call of the model costs as much as a dozen of its lists, so those that wait when a batch of events is scored are
    scored with it: see `beside`.

    Args:
        serving: The weights.
        scorer: Knows what is asked of a model for a user.
        pipeline: Knows the users.
        compute: The thread of the weights.
        n_partitions: Of the source topics.
        owners: Who holds the partitions that are not held here.
        now_ms: The wall clock.
    """

    def __init__(
        self,
        serving: Serving,
        scorer: Scorer,
        pipeline: Pipeline,
        compute: ThreadPoolExecutor,
        n_partitions: int,
        owners: Owners,
        now_ms: Callable[[], int],
    ) -> None:
        self._serving = serving
        self._scorer = scorer
        self._pipeline = pipeline
        self._compute = compute
        self._n_partitions = n_partitions
        self._owners = owners
        self._now_ms = now_ms
        # Filled on the event loop and emptied in the compute thread, one at a time from either end.
        self._waiting: deque[_Wanted] = deque()
        self._round_due = False

    async def answer(self, user_id: str, k: int, exclude: Exclusion | None) -> LookupAnswer:
        """Return the best `k` items for a user now, or who knows them."""
        assignment, users = self._pipeline.assignment, self._pipeline.users
        if assignment is None or users is None or not self._serving.ready.is_set():
            return NotReady("partitions are being assigned, or their users loaded")
        home = home_partition(user_id, self._n_partitions)
        if home not in {partition.number for partition in assignment.partitions}:
            owner = await self._owners.of(home)
            return Elsewhere(owner and owner.instance, owner and owner.url, home)
        wanted = _Wanted(users.get(user_id), exclude, k, asyncio.get_running_loop().create_future())
        self._waiting.append(wanted)
        if not self._round_due:
            self._start_round(asyncio.get_running_loop())
        ranked, version = await wanted.answer
        return found(self._record(user_id, ranked, version), None if ranked.n_candidates else "no item is known yet")

    def beside(self, model: ServingModel) -> Recommender:
        """Return a model that answers waiting look-ups with whatever else it is asked; for the compute thread."""
        return _Beside(self, model)

    def score_with(self, model: ServingModel, requests: Sequence[Request], k: int) -> list[Ranked]:
        """Return the lists of `requests`; waiting look-ups of no more than `k` items are answered in the same call."""
        wanted = self._take(k)
        try:
            lists = model.recommend([*requests, *map(self._request, wanted)], k)
        except Exception as error:
            _tell(wanted, error)
            raise
        theirs = zip(wanted, lists[len(requests) :], strict=True)
        _tell(wanted, [(ranked.cut(each.k), model.version) for each, ranked in theirs])
        return lists[: len(requests)]

    def _start_round(self, loop: asyncio.AbstractEventLoop) -> None:
        self._round_due = True
        self._compute.submit(self._score_waiting, loop)

    def _score_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        """Score those that wait, as many as go together; called in the compute thread."""
        self._round_due = False  # first: whoever comes from here on is taken below, or starts a round
        wanted = self._take()
        if self._waiting and not self._round_due:
            self._start_round(loop)
        if not wanted:
            return
        results: list[_Result] | Exception
        try:
            results = self._score(wanted)
        except Exception as error:
            results = error
        _tell(wanted, results)

    def _take(self, k: float = inf) -> list[_Wanted]:
        """Take those that wait, in their order, up to the first that wants more than `k` items."""
        wanted: list[_Wanted] = []
        while self._waiting and len(wanted) < MAX_TOGETHER and self._waiting[0].k <= k:
            each = self._waiting.popleft()
            if not each.answer.done():  # whoever asked may have gone
                wanted.append(each)
        return wanted

    def _score(self, wanted: Sequence[_Wanted]) -> list[_Result]:
        model = self._serving.model
        lists = model.recommend([self._request(each) for each in wanted], max(each.k for each in wanted))
        return [(ranked.cut(each.k), model.version) for each, ranked in zip(wanted, lists, strict=True)]

    def _request(self, wanted: _Wanted) -> Request:
        return self._scorer.request_for(wanted.state, self._now_ms(), wanted.exclude)

    def _record(self, user_id: str, ranked: Ranked, version: int) -> Recommendation:
        return Recommendation(
            recommendation_id=str(ULID()),
            user_id=user_id,
            generated_at=self._now_ms(),
            model_version=version,
            policy=POLICY,
            variant=VARIANT,
            candidates=ranked.n_candidates,
            items=recommended_items(ranked),
        )


class _Beside:
    """A model with look-ups beside what it is asked; see `Recommender`."""

    def __init__(self, lookups: Lookups, model: ServingModel) -> None:
        self._lookups, self._model = lookups, model

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranked]:
        return self._lookups.score_with(self._model, requests, k)

    def rank(self, requests: Sequence[Request], targets: Sequence[str]) -> list[int]:
        return self._model.rank(requests, targets)


def _tell(wanted: Sequence[_Wanted], results: Sequence[_Result] | Exception) -> None:
    """Hand results over to the event loop, in one call for all: each wakes the loop up."""
    if wanted:
        wanted[0].answer.get_loop().call_soon_threadsafe(_deliver, wanted, results)


def _deliver(wanted: Sequence[_Wanted], results: Sequence[_Result] | Exception) -> None:
    for place, each in enumerate(wanted):
        if each.answer.done():
            continue
        if isinstance(results, Exception):
            each.answer.set_exception(results)
        else:
            each.answer.set_result(results[place])
