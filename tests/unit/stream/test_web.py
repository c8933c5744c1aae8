"""The worker's web address, over real sockets."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from yarl import URL

from stream.errors import StartupError
from stream.lookup import Elsewhere, LookupAnswer, NotReady, found
from stream.records import Recommendation, RecommendedItem, decode_recommendation
from stream.settings import Settings, WebSettings
from stream.web import WebServer

LIST = Recommendation(
    "01J0000000000000000000TEST", "u", 1, 7, "live", "a", candidates=2, items=[RecommendedItem("i1", 1.5, "recurrent")]
)


class Questions:
    """A look-up that remembers what it was asked."""

    def __init__(self, answer: LookupAnswer | Exception | None = None) -> None:
        self.asked: list[tuple[str, int, str | None]] = []
        self._answer = answer

    async def __call__(self, user_id: str, k: int, exclude: str | None) -> LookupAnswer:
        self.asked.append((user_id, k, exclude))
        if isinstance(self._answer, Exception):
            raise self._answer
        if self._answer is None:
            await asyncio.sleep(3600)
        assert not isinstance(self._answer, Exception | None)
        return self._answer


def server(lookup: Any = None, ready: Mapping[str, bool] | None = None, **options: Any) -> WebServer:
    return WebServer(
        Settings(web=WebSettings(port=options.pop("port", 0), host=options.pop("host", "127.0.0.1"))),
        health=lambda: {"version": "1"},
        readiness=lambda: ready or {"assigned": True},
        exposition=lambda: (b"up 1\n", "text/plain; version=0.0.4; charset=utf-8"),
        lookup=lookup or Questions(found(LIST)),
        **options,
    )


@asynccontextmanager
async def serving(web: WebServer) -> AsyncIterator[Callable[..., Any]]:
    """Give `get(path)`: the response, read to its end."""
    await web.start()
    try:
        async with aiohttp.ClientSession(auto_decompress=True) as session:

            async def get(path: str, method: str = "GET", **options: Any) -> tuple[aiohttp.ClientResponse, bytes]:
                url = URL(f"http://{web.address}{path}", encoded=True)
                async with session.request(method, url, allow_redirects=False, **options) as response:
                    return response, await response.read()

            yield get
    finally:
        await web.stop()


def ask(web: WebServer, path: str, **options: Any) -> tuple[aiohttp.ClientResponse, bytes]:
    async def once() -> tuple[aiohttp.ClientResponse, bytes]:
        async with serving(web) as get:
            answer: tuple[aiohttp.ClientResponse, bytes] = await get(path, **options)
            return answer

    return asyncio.run(once())


def test_tells_that_the_process_works() -> None:
    response, body = ask(server(), "/health")
    assert (response.status, json.loads(body)) == (200, {"version": "1"})


@pytest.mark.parametrize(("recovered", "status"), [(True, 200), (False, 503)])
def test_is_ready_when_every_condition_holds(recovered: bool, status: int) -> None:
    response, body = ask(server(ready={"assigned": True, "recovered": recovered}), "/ready")
    assert response.status == status
    assert json.loads(body) == {"ready": recovered, "conditions": {"assigned": True, "recovered": recovered}}


def test_hands_out_metrics_with_their_own_content_type() -> None:
    response, body = ask(server(), "/metrics")
    assert (response.status, body) == (200, b"up 1\n")
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_the_first_page_names_every_endpoint() -> None:
    response, body = ask(server(), "/")
    assert response.status == 200
    assert all(name in body.decode() for name in ("/health", "/ready", "/metrics", "/recommendations/{user_id}"))


def test_answers_with_a_recommendation_record_that_has_no_trigger() -> None:
    questions = Questions(found(LIST))
    response, body = ask(server(questions), "/recommendations/u?k=5&exclude=seen")
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json"
    assert decode_recommendation(body) == LIST
    assert json.loads(body)["trigger"] is None
    assert "note" not in json.loads(body)
    assert questions.asked == [("u", 5, "seen")]


def test_leaves_length_and_exclusion_to_the_settings() -> None:
    questions = Questions(found(LIST))
    ask(server(questions), "/recommendations/u")
    assert questions.asked == [("u", 20, None)]


def test_an_empty_list_says_why() -> None:
    empty = Recommendation("r", "u", 1, 0, "live", "a", candidates=0, items=[])
    _, body = ask(server(Questions(found(empty, "no item is known yet"))), "/recommendations/u")
    assert json.loads(body)["items"] == []
    assert json.loads(body)["note"] == "no item is known yet"


@pytest.mark.parametrize(
    ("query", "expected", "actual"),
    [
        ("k=0", "1..100", "'0'"),
        ("k=101", "1..100", "'101'"),
        ("k=1e2", "1..100", "'1e2'"),
        ("k=%2B5", "1..100", "'+5'"),
        ("k=", "1..100", "''"),
        ("k=%D9%A3", "1..100", "'٣'"),
        ("k=" + "9" * 3000, "1..100", "'999"),
        ("exclude=all", "none, current, sitting, bought, seen", "'all'"),
        ("exclude=", "none, current, sitting, bought, seen", "''"),
        ("k=3&k=4", "one value", "'4'"),
        ("exlude=seen", "k and exclude", "'exlude'"),
    ],
)
def test_wrong_values_are_told_with_what_was_expected_and_what_came(query: str, expected: str, actual: str) -> None:
    questions = Questions(found(LIST))
    response, body = ask(server(questions), f"/recommendations/u?{query}")
    assert response.status == 400
    assert body.count(b"\n") == 1
    message = json.loads(body)["error"]
    assert expected in message
    assert actual in message
    assert questions.asked == []


@pytest.mark.parametrize("k", ["1", "100"])
def test_takes_the_ends_of_the_range(k: str) -> None:
    assert ask(server(), f"/recommendations/u?k={k}")[0].status == 200


@pytest.mark.parametrize("path", ["", "x" * 257, "%FF", "%C3%28", "%ED%A0%80"])
def test_refuses_what_is_no_user_id(path: str) -> None:
    response, body = ask(server(), f"/recommendations/{path}")
    assert response.status == 400
    assert "user id: expected" in json.loads(body)["error"]


@pytest.mark.parametrize(
    "user_id", ["a/b", "a b", "50%", "%2F", "ü", "日本", "?k=1", "#", ".", "..", "😀" * 256, "\x00"]
)
def test_takes_any_user_id_percent_encoded(user_id: str) -> None:
    questions = Questions(found(LIST))
    response, _ = ask(server(questions), f"/recommendations/{quote(user_id, safe='')}")
    assert response.status == 200
    assert questions.asked == [(user_id, 20, None)]


def test_any_text_survives_the_path() -> None:
    questions = Questions(found(LIST))

    async def all_of(user_ids: list[str]) -> None:
        async with serving(server(questions)) as get:
            for user_id in user_ids:
                response, _ = await get(f"/recommendations/{quote(user_id, safe='')}")
                assert response.status == 200

    @hypothesis_settings(max_examples=10, deadline=None)
    @given(st.lists(st.text(min_size=1, max_size=256), min_size=1, max_size=10))
    def check(user_ids: list[str]) -> None:
        questions.asked.clear()
        asyncio.run(all_of(user_ids))
        assert [user_id for user_id, _, _ in questions.asked] == user_ids

    check()


def test_sends_a_request_on_to_the_worker_that_holds_the_user() -> None:
    elsewhere = Elsewhere("inst-2", "http://worker-2:8080/", 3)
    response, body = ask(server(Questions(elsewhere)), "/recommendations/a%2Fb?k=3")
    assert response.status == 307
    assert response.headers["Location"] == "http://worker-2:8080/recommendations/a%2Fb?k=3"
    assert json.loads(body)["instance"] == "inst-2"


@pytest.mark.parametrize("instance", ["inst-2", None])
def test_names_the_owner_that_advertises_no_address(instance: str | None) -> None:
    response, body = ask(server(Questions(Elsewhere(instance, None, 3))), "/recommendations/u")
    assert response.status == 421
    assert json.loads(body)["instance"] == instance
    assert json.loads(body)["partition"] == 3


def test_asks_to_come_again_while_it_is_not_ready() -> None:
    response, body = ask(server(Questions(NotReady("users are being recovered"))), "/recommendations/u")
    assert response.status == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert "users are being recovered" in json.loads(body)["error"]


def test_a_lookup_has_a_deadline() -> None:
    """Red without it."""
    response, body = ask(server(Questions(None), lookup_seconds=0.05), "/recommendations/u")
    assert response.status == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert "0.05 s" in json.loads(body)["error"]


def test_a_failed_lookup_is_logged_and_answered_without_its_inside(caplog: pytest.LogCaptureFixture) -> None:
    """Red without `_errors_as_json`."""
    response, body = ask(server(Questions(RuntimeError("secret"))), "/recommendations/somebody%0AERROR")
    assert response.status == 500
    assert b"secret" not in body
    assert "secret" in caplog.text
    assert "route=/recommendations/{user_id}" in caplog.text
    assert "somebody" not in caplog.text  # logs carry no ids, and a path can hold line breaks


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("POST", "/health", 405), ("GET", "/recommendations/a/b", 404)],
)
def test_other_requests_get_one_line_of_json(method: str, path: str, status: int) -> None:
    """Red without `_errors_as_json`."""
    response, body = ask(server(), path, method=method)
    assert response.status == status
    assert "error" in json.loads(body)


@pytest.mark.parametrize("path", ["/", "/health", "/nothing", "/recommendations/u?k=0"])
def test_headers_name_no_version(path: str) -> None:
    """Red without `_harden`."""
    response, _ = ask(server(), path)
    assert response.headers["Server"] == "millstream"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"GET /" + b"x" * 9999 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    ],
    ids=["tls", "too long", "bad header"],
)
def test_what_is_no_http_is_refused_without_a_version_or_noise(
    request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Red where the header of the server stays."""

    async def knock() -> bytes:
        web = server()
        await web.start()
        host, port = web.address.split(":")
        try:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(request_bytes)
            answer = await asyncio.wait_for(reader.read(), 10)
            writer.close()
            return answer
        finally:
            await web.stop()

    answer = asyncio.run(knock())
    assert answer.startswith(b"HTTP/1.")
    assert b" 400 " in answer.splitlines()[0]
    assert b"aiohttp" not in answer
    assert b"Python" not in answer
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


def test_a_taken_port_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(StartupError, match="MILLSTREAM_WEB__PORT") as raised:
            asyncio.run(server(port=taken.getsockname()[1]).start())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_told_in_one_line(host: str) -> None:
    with pytest.raises(StartupError, match="MILLSTREAM_WEB__HOST") as raised:
        asyncio.run(server(host=host).start())
    assert "\n" not in str(raised.value)


def test_listens_on_loopback_alone_by_default() -> None:
    async def where() -> str:
        web = server()
        await web.start()
        address = web.address
        await web.stop()
        await web.stop()
        return address

    assert asyncio.run(where()).startswith("127.0.0.1:")


def test_can_be_started_again_on_the_same_port() -> None:
    async def twice() -> None:
        first = server()
        async with serving(first) as get:
            await get("/health")
        second = server(port=int(first.address.rpartition(":")[2]))
        async with serving(second) as get:
            assert (await get("/health"))[0].status == 200

    asyncio.run(twice())


def test_a_request_under_way_does_not_hold_up_the_stop() -> None:
    """Red with the patience of a minute."""

    async def stop_in_between() -> float:
        web = server(Questions(None), lookup_seconds=3600)
        loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession() as session:
            await web.start()
            request = asyncio.create_task(session.get(f"http://{web.address}/recommendations/u"))
            await asyncio.sleep(0.1)
            started = loop.time()
            await web.stop()
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
            return loop.time() - started

    assert asyncio.run(stop_in_between()) < 5
