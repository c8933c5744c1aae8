"""Look-ups that come at once: scored together, each answered with its own list."""

import asyncio
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import pytest

from online_model.protocol import Context, Ranked, Request
from online_model.serving import ServingModel
from stream.behaviors import behavior_table
from stream.identity import Identity
from stream.lookup import Found
from stream.lookups import MAX_TOGETHER, Lookups
from stream.scorer import Scorer
from stream.settings import Settings
from stream.state import UserState, encode_state
from stream.users import UserTable


class Echo:
    """A model whose lists begin with the item that the user was on; it remembers how many were asked for together."""

    version = 7

    def __init__(self) -> None:
        self.rounds: list[int] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.fails = False

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranked]:
        self.rounds.append(len(requests))
        assert self.go_on.wait(10)
        if self.fails:
            raise ValueError("broken")
        items = [[f"after-{request.context.history[-1][0]}", *map(str, range(k - 1))] for request in requests]
        return [Ranked(each, [0.5] * len(each), ["recurrent"] * len(each), k) for each in items]


@pytest.fixture
def model() -> Echo:
    return Echo()


@pytest.fixture
def lookups(model: Echo) -> Iterator[Lookups]:
    """Users are known by their number."""
    settings = Settings()
    users = UserTable(1, 10_000)
    for number in range(500):
        users.restore(f"u{number}", encode_state(UserState(visits=[(f"i{number}", "view", 1, 1)])))
    identity = Identity("cluster", {})
    scorer = Scorer(settings, identity, behavior_table(settings.behaviors), 1, str, lambda: 2)
    pipeline: Any = SimpleNamespace(assignment=SimpleNamespace(partitions=[SimpleNamespace(number=0)]), users=users)
    serving: Any = SimpleNamespace(model=model, ready=threading.Event())
    serving.ready.set()
    owners: Any = None
    with ThreadPoolExecutor(1) as compute:
        yield Lookups(serving, scorer, pipeline, compute, 1, owners, lambda: 2)


@pytest.fixture
def ask(lookups: Lookups) -> Any:
    """Give `ask(user, k)`, on the running loop."""

    async def one(number: int, k: int = 3) -> list[str]:
        answer = await lookups.answer(f"u{number}", k, None)
        assert isinstance(answer, Found)
        record = json.loads(answer.body)
        assert (record["user_id"], record["model_version"]) == (f"u{number}", 7)
        return [item["item_id"] for item in record["items"]]

    return one


def test_what_came_while_the_thread_was_busy_is_scored_together(model, ask):
    async def burst() -> None:
        model.go_on.clear()
        first = asyncio.create_task(ask(0))
        while not model.rounds:
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(ask(number, k=1 + number % 5)) for number in range(1, 11)]
        await asyncio.sleep(0)
        model.go_on.set()
        lists = await asyncio.gather(first, *rest)
        assert [items[0] for items in lists] == [f"after-i{number}" for number in range(11)]
        assert [len(items) for items in lists] == [3, *(1 + number % 5 for number in range(1, 11))]

    asyncio.run(burst())
    assert model.rounds == [1, 10]


def test_a_flood_is_scored_in_rounds_so_that_events_come_between_them(model, ask):
    """Seen red: with all that wait taken at once, the events behind them wait for one call of 200 lists."""

    async def flood() -> None:
        model.go_on.clear()
        first = asyncio.create_task(ask(0))
        while not model.rounds:
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(ask(number)) for number in range(1, 201)]
        await asyncio.sleep(0)
        model.go_on.set()
        lists = await asyncio.gather(first, *rest)
        assert [items[0] for items in lists] == [f"after-i{number}" for number in range(201)]

    asyncio.run(flood())
    assert sum(model.rounds) == 201
    assert max(model.rounds) == MAX_TOGETHER


def test_every_one_of_many_is_answered_whatever_the_threads_interleave(model, ask):
    async def many() -> None:
        for _ in range(20):
            lists = await asyncio.wait_for(asyncio.gather(*(ask(number) for number in range(100))), 10)
            assert [items[0] for items in lists] == [f"after-i{number}" for number in range(100)]

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # as many interleavings as there can be
    try:
        asyncio.run(many())
    finally:
        sys.setswitchinterval(usual)


def test_who_has_gone_is_not_scored_and_a_failure_reaches_all_of_a_round(model, ask):
    async def gone() -> None:
        model.go_on.clear()
        first = asyncio.create_task(ask(0))
        while not model.rounds:
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(ask(number)) for number in range(1, 4)]
        await asyncio.sleep(0)
        rest[0].cancel()
        await asyncio.sleep(0)
        model.fails = True
        model.go_on.set()
        results = await asyncio.gather(first, *rest, return_exceptions=True)
        assert isinstance(results[1], asyncio.CancelledError)
        assert [str(results[place]) for place in (0, 2, 3)] == ["broken"] * 3

    asyncio.run(gone())
    assert model.rounds == [1, 2]


@pytest.fixture
def events() -> list[Request]:
    return [Request(Context((("event", "view", 1),), 0, 2))] * 2


def asked_with_events(model: Echo, lookups: Lookups, ask: Any, events: list[Request]) -> tuple[list[Any], list[Any]]:
    """Let look-ups of 2, 3, 9 and 1 items come while the thread works, and a batch of events that want 3 each."""
    model.go_on.clear()

    async def act() -> tuple[list[Any], list[Any]]:
        loop, beside = asyncio.get_running_loop(), lookups.beside(cast(ServingModel, model))
        first = asyncio.create_task(ask(0))
        while not model.rounds:
            await asyncio.sleep(0.001)
        batch = loop.run_in_executor(lookups._compute, beside.recommend, events, 3)
        rest = [asyncio.create_task(ask(number, k)) for number, k in ((1, 2), (2, 3), (3, 9), (4, 1))]
        await asyncio.sleep(0)
        model.go_on.set()
        return (
            await asyncio.gather(batch, return_exceptions=True),
            await asyncio.gather(first, *rest, return_exceptions=True),
        )

    return asyncio.run(act())


def test_look_ups_that_wait_are_scored_with_a_batch_of_events(model, lookups, ask, events):
    """Those of longer lists than the events', and those behind them, come in a round of their own.

    Seen red: with lists of events or of others given to look-ups, and with the long one taken too.
    """
    (lists,), found = asked_with_events(model, lookups, ask, events)
    assert [ranked.items[0] for ranked in lists] == ["after-event"] * 2
    assert [items[0] for items in found] == [f"after-i{number}" for number in range(5)]
    assert [len(items) for items in found] == [3, 2, 3, 9, 1]
    assert model.rounds == [1, 4, 2]


def test_a_failure_beside_events_reaches_them_and_the_look_ups(model, lookups, ask, events):
    model.fails = True
    (lists,), found = asked_with_events(model, lookups, ask, events)
    assert str(lists) == "broken"
    assert [str(error) for error in found] == ["broken"] * 5
