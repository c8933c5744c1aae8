"""Who the web address lets in, how often, and what it does with clients that mean no good; over real sockets."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream import web as web_module
from stream.guards import Rate, Token
from stream.live.sources import WorkerAddress
from stream.lookup import LookupAnswer, found
from stream.records import Recommendation
from stream.settings import Settings, WebSettings, load_settings
from stream.web import WebServer

TOKEN = "a-token-that-nobody-guesses"
LIST = found(Recommendation("r", "u", 1, 0, "live", "a", candidates=0, items=[]))
Get = Callable[..., Awaitable[tuple[aiohttp.ClientResponse, bytes]]]


class Gate:
    """A look-up that waits until it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.n_waiting = 0

    async def __call__(self, *_: object) -> LookupAnswer:
        self.n_waiting += 1
        await self.open.wait()
        return LIST


async def at_once(*_: object) -> LookupAnswer:
    return LIST


@asynccontextmanager
async def serving(lookup: Any = at_once, quiet_seconds: float = 30.0, **options: Any) -> AsyncIterator[WebServer]:
    web = WebServer(
        Settings(web=WebSettings(**{"port": 0, **options})),
        health=dict,
        readiness=lambda: {"assigned": True},
        exposition=lambda: (b"x" * 10_000_000, "text/plain"),
        lookup=lookup,
        quiet_seconds=quiet_seconds,
    )
    await web.start()
    try:
        yield web
    finally:
        await web.stop()


async def statuses(web: WebServer, *paths: str, **options: Any) -> list[int]:
    async with aiohttp.ClientSession() as session:
        found = []
        for path in paths:
            async with session.get(f"http://{web.address}{path}", **options) as response:
                found.append(response.status)
        return found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


PATHS = ("/", "/health", "/ready", "/metrics", "/recommendations/u", "/nothing")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"Bearer {TOKEN}", [200, 200, 200, 200, 200, 404]),
        (f"bearer {TOKEN}", [200, 200, 200, 200, 200, 404]),
        (None, [401, 200, 200, 401, 401, 401]),
        ("Bearer ", [401, 200, 200, 401, 401, 401]),
        (f"Bearer {TOKEN}x", [401, 200, 200, 401, 401, 401]),
        (f"Basic {TOKEN}", [401, 200, 200, 401, 401, 401]),
        (f"Digest {TOKEN}", [401, 200, 200, 401, 401, 401]),  # as long as "Bearer": seen red without the scheme
        (TOKEN, [401, 200, 200, 401, 401, 401]),
    ],
)
def test_a_token_opens_all_but_what_probes_ask(header: str | None, expected: list[int]) -> None:
    """Seen red with `_guard` taken out of the middlewares."""

    async def run() -> list[int]:
        async with serving(token=TOKEN) as web:
            return await statuses(web, *PATHS, headers={"Authorization": header} if header else {})

    assert asyncio.run(run()) == expected


@given(st.text(max_size=60))
def test_nothing_but_the_token_is_accepted(header: str) -> None:
    assert Token(TOKEN).accepts(header) == (header[:7].lower() == "bearer " and header[7:].strip() == TOKEN)


def test_a_token_comes_from_a_file_and_must_be_hard_to_guess(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Red where one character is enough."""
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    monkeypatch.setenv("MILLSTREAM_WEB__TOKEN_FILE", str(file))
    assert load_settings().web.bearer == TOKEN
    file.write_text("1234567890")
    with pytest.raises(ValueError, match="at least 16") as refused:
        load_settings()
    assert "1234567890" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "warned"),
    [({}, False), ({"host": "0.0.0.0"}, True), ({"host": "0.0.0.0", "token": TOKEN}, False), ({"host": "::1"}, False)],
)
def test_an_open_address_without_a_token_is_warned_of(
    options: dict[str, str], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Red without the warning."""

    async def run() -> None:
        async with serving(**options):
            pass

    asyncio.run(run())
    assert [record.levelno == logging.WARNING for record in caplog.records if "loopback" in record.message] == (
        [True] if warned else []
    )


def test_listens_on_loopback_unless_told_otherwise() -> None:
    """Red with another default."""

    async def run() -> str:
        async with serving() as web:
            return web.address

    assert asyncio.run(run()).startswith("127.0.0.1:")


def test_more_lookups_at_once_than_allowed_are_told_to_come_again() -> None:
    """Seen red without the count."""

    async def run() -> tuple[list[int], str]:
        gate = Gate()
        async with serving(gate, max_lookups=2) as web, aiohttp.ClientSession() as session:
            address = f"http://{web.address}/recommendations/u"
            first = [asyncio.create_task(session.get(address)) for _ in range(2)]
            await until(lambda: gate.n_waiting == 2)
            third = await session.get(address)
            assert await statuses(web, "/health") == [200]
            gate.open.set()
            return [third.status, *[(await each).status for each in first]], third.headers["Retry-After"]

    assert asyncio.run(run()) == ([503, 200, 200], "1")


def test_more_lookups_a_second_than_allowed_are_429_and_probes_are_not_counted() -> None:
    """Seen red without the rate."""

    async def run() -> None:
        async with serving(lookups_per_second=1) as web:
            paths = ["/recommendations/u"] * 5 + ["/health", "/ready", "/metrics"]
            found = await statuses(web, *paths)
            assert found[0] == 200
            assert 429 in found[1:5]
            assert found[5:] == [200, 200, 200]

    asyncio.run(run())


def test_a_rate_lets_so_many_pass_and_says_when_to_come_again() -> None:
    """Red where a quiet time is saved up without end."""
    now = 0.0
    rate = Rate(10, lambda: now)
    assert [rate.wait_seconds() for _ in range(11)] == [0] * 10 + [1]
    now = 0.1
    assert [rate.wait_seconds() for _ in range(2)] == [0, 1]
    now = 100.0
    assert sum(rate.wait_seconds() == 0 for _ in range(100)) == 10
    assert {Rate(0).wait_seconds() for _ in range(100)} == {0}


async def knock(web: WebServer, request: bytes) -> bytes:
    """Send bytes, and read until the server closes."""
    host, port = web.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    async with asyncio.timeout(30):
        try:
            answer = await reader.read()
        except ConnectionResetError:
            answer = b""
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", b"413"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n", b"413"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"413"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 65 + b"\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 5000 + b"\r\n\r\n", b"400"),
        (b"GET /" + b"b" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
    ],
)
def test_what_is_too_much_is_refused_and_the_connection_closed(request_bytes: bytes, status: bytes) -> None:
    """Red without the look at the body, and without each of the three limits on lines, fields and their number."""

    async def run() -> bytes:
        async with serving() as web:
            return await knock(web, request_bytes)

    assert asyncio.run(run()).split(b" ")[1] == status


@pytest.mark.parametrize("request_bytes", [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: x\r\nA: "])
def test_a_client_that_never_finishes_a_request_is_dropped(request_bytes: bytes) -> None:
    """Seen red with aiohttp's own timeout, which is an hour."""

    async def run() -> bytes:
        async with serving(quiet_seconds=0.2) as web:
            return await knock(web, request_bytes)

    assert asyncio.run(run()) == b""


def test_a_client_that_sends_a_byte_now_and_then_is_dropped_too() -> None:
    async def run() -> None:
        async with serving(quiet_seconds=0.3) as web:
            host, port = web.address.split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nA: ")
            ended = asyncio.ensure_future(reader.read())
            async with asyncio.timeout(30):
                while not ended.done():
                    writer.write(b"b")
                    await asyncio.wait({ended}, timeout=0.05)
            assert isinstance(ended.exception(), ConnectionResetError) or ended.result() == b""
            writer.close()

    asyncio.run(run())


def test_a_client_that_takes_no_answer_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red without the deadline of `finish_response` and the `abort`."""
    monkeypatch.setattr(web_module, "WRITE_SECONDS", 0.2)
    monkeypatch.setattr(web_module, "CLOSE_SECONDS", 0.1)

    async def run() -> None:
        async with serving(quiet_seconds=0.3) as web:
            host, port = web.address.split(":")
            _, writer = await asyncio.open_connection(host, int(port), limit=1024)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            manager = web._runner.server if web._runner else None
            assert manager is not None
            await until(lambda: len(manager.connections) == 1)
            await until(lambda: not manager.connections)
            writer.close()

    asyncio.run(run())


def test_more_connections_than_allowed_are_closed_unheard() -> None:
    """Seen red without the bound."""

    async def run() -> tuple[bytes, list[int]]:
        async with serving(max_connections=2) as web:
            host, port = web.address.split(":")
            held = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
            manager = web._runner.server if web._runner else None
            assert manager is not None
            await until(lambda: len(manager.connections) == 2)
            third = await knock(web, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            for _, writer in held:
                writer.close()
            await until(lambda: not manager.connections)
            return third, await statuses(web, "/health")

    assert asyncio.run(run()) == (b"", [200])


def test_any_number_of_scrapes_at_once_makes_the_text_once_at_a_time() -> None:
    """Red where each one makes its own."""
    import threading

    running, most = 0, 0
    lock = threading.Lock()

    def exposition() -> tuple[bytes, str]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.05)
        with lock:
            running -= 1
        return b"up 1\n", "text/plain"

    async def run() -> None:
        web = WebServer(
            Settings(web=WebSettings(port=0)),
            health=dict,
            readiness=dict,
            exposition=exposition,
            lookup=at_once,
        )
        await web.start()
        try:
            found = await asyncio.gather(*[statuses(web, "/metrics") for _ in range(20)])
        finally:
            await web.stop()
        assert found == [[200]] * 20

    asyncio.run(run())
    assert most == 1


def test_the_answer_to_a_missing_token_says_how_to_bring_one() -> None:
    async def run() -> tuple[str, str]:
        async with serving(token=TOKEN) as web, aiohttp.ClientSession() as session:
            async with session.get(f"http://{web.address}/metrics") as response:
                return response.headers["WWW-Authenticate"], json.loads(await response.read())["error"]

    challenge, error = asyncio.run(run())
    assert challenge == "Bearer"
    assert "Authorization: Bearer" in error


def test_the_live_view_brings_the_token() -> None:
    async def run() -> list[int | None]:
        async with serving(token=TOKEN) as web:
            host, port = web.address.split(":")
            found = []
            for token in (None, TOKEN):
                answer = await asyncio.to_thread(WorkerAddress(host, int(port), token).get, "/metrics")
                found.append(answer and answer[0])
            return found

    assert asyncio.run(run()) == [401, 200]
