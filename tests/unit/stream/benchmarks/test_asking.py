"""The clients that ask for lists, against the worker's own web server on a thread of its own."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from stream.benchmarks.asking import at_rate, flat_out, list_of, read_wrk
from stream.lookup import LookupAnswer, NotReady, found
from stream.records import Recommendation, RecommendedItem
from stream.settings import Settings, WebSettings
from stream.web import WebServer

LIST = Recommendation("r", "u", 1, 7, "live", "a", candidates=2, items=[RecommendedItem("i1", 1.5, "recurrent")])


async def answer(user_id: str, _k: int, _exclude: str | None) -> LookupAnswer:
    return NotReady("not yet") if user_id == "nobody" else found(LIST)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    web = WebServer(
        Settings(web=WebSettings(port=0)),
        health=dict,
        readiness=lambda: {"assigned": True},
        exposition=lambda: (b"", "text/plain"),
        lookup=answer,
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(web.start(), loop).result(10)
    yield web.address
    asyncio.run_coroutine_threadsafe(web.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_steady_client_asks_as_often_as_it_was_told(address):
    asked = at_rate(address, ["u/1", "ü"], rate=200, seconds=0.25, n_connections=4)
    assert asked.failed == 0
    assert 0 < asked.milliseconds["p50_ms"] <= asked.milliseconds["p99_ms"] <= asked.milliseconds["max_ms"]
    assert 0 < asked.per_second <= 50 / 0.245  # 50 lists, the last of them asked for after 245 ms


def test_what_is_no_list_counts_as_failed_and_not_as_quick(address):
    asked = at_rate(address, ["nobody"], rate=100, seconds=0.1, n_connections=2)
    assert (asked.failed, asked.per_second, asked.milliseconds) == (10, 0.0, {})


def test_flat_out_asks_until_the_time_is_over(address):
    asked = flat_out(address, ["u"], seconds=0.2, n_connections=2)
    assert asked.failed == 0
    assert asked.per_second > 20


def test_a_worker_that_is_gone_ends_the_run(free_port):
    with pytest.raises(ConnectionRefusedError):
        at_rate(f"127.0.0.1:{free_port}", ["u"], rate=10, seconds=0.1, n_connections=1)


@pytest.fixture
def free_port() -> int:
    from stream.brokers.ports import free_ports

    return free_ports(1)[0]


def test_the_items_of_a_list(address):
    assert list_of(address, "a b", 20)() == ["i1"]


def test_failed_requests_of_wrk_are_left_out():
    asked = read_wrk("Running 2s\nMEASURED 3000 2000000 1000 0.9 2.5 4.0 7.1\nrest", cpu_seconds=0.5)
    assert (asked.per_second, asked.failed, asked.client_cores) == (1000.0, 1000, 0.25)
    assert asked.milliseconds == {"p50_ms": 0.9, "p95_ms": 2.5, "p99_ms": 4.0, "max_ms": 7.1}
