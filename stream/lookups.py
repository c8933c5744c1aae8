"""`GET /recommendations/{user_id}`: scored now, with the live weights and the user's newest state."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from ulid import ULID

from online_model.protocol import Ranked, Request
from stream.lookup import Elsewhere, LookupAnswer, NotReady, found
from stream.owners import Owners
from stream.pipeline import Pipeline
from stream.records import Recommendation
from stream.scorer import POLICY, VARIANT, Scorer, recommended_items
from stream.serving import Serving
from stream.settings import Exclusion
from stream.state import UserState
from stream.users import home_partition


class _Wanted(NamedTuple):
    state: UserState
    exclude: Exclusion | None
    k: int
    answer: "asyncio.Future[tuple[Ranked, int]]"


class Lookups:
    """Answers look-ups together: what was asked for while the compute thread was busy is scored in one go.

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
        self._waiting: list[_Wanted] = []

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
        if len(self._waiting) == 1:
            asyncio.get_running_loop().run_in_executor(self._compute, self._score_waiting, asyncio.get_running_loop())
        ranked, version = await wanted.answer
        return found(self._record(user_id, ranked, version), None if ranked.n_candidates else "no item is known yet")

    def _score_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        """Score all that wait; called in the compute thread."""
        wanted, self._waiting = self._waiting, []
        try:
            lists = self._serving.model.recommend(
                [self._request(each) for each in wanted], max((each.k for each in wanted), default=0)
            )
        except Exception as error:
            for each in wanted:
                loop.call_soon_threadsafe(_fail, each.answer, error)
            return
        version = self._serving.model.version
        for each, ranked in zip(wanted, lists, strict=True):
            loop.call_soon_threadsafe(_fulfil, each.answer, (ranked.cut(each.k), version))

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


def _fulfil(answer: "asyncio.Future[tuple[Ranked, int]]", result: tuple[Ranked, int]) -> None:
    if not answer.done():  # whoever asked may have gone
        answer.set_result(result)


def _fail(answer: "asyncio.Future[tuple[Ranked, int]]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
