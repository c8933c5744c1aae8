"""The worker's web address: health, readiness, metrics, and the look-up of one user's recommendations."""

import asyncio
import errno
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from stream.errors import StartupError
from stream.guards import Rate, Token
from stream.lookup import Elsewhere, Found, Lookup, WrongQuestion, read_question
from stream.settings import Settings

log = logging.getLogger(__name__)

QUIET_SECONDS = 30.0
"""A connection that does not finish a request in this time, or sends none, is closed."""
WRITE_SECONDS = 10.0
"""A client that does not take its answer in this time is dropped."""
CLOSE_SECONDS = 2.0
_OPEN_PATHS: Final = frozenset({"/health", "/ready"})
"""Answered without a token: what probes ask, which cannot carry one."""

LOOKUP_SECONDS = 5.0
"""A look-up that takes longer is answered with 503."""
STOP_SECONDS = 2.0
_MAX_LINE_BYTES = 4096  # 256 characters of four bytes, percent-encoded, and the rest of the line
_MAX_HEADERS = 64
_PREFIX = "/recommendations/"
_JSON = "application/json"
_RETRY_AFTER: Final[dict[str, str]] = {hdrs.RETRY_AFTER: "1"}
_INDEX = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>millstream worker</title>
<h1>millstream worker</h1>
<ul>
<li><a href="health">/health</a>: the process works
<li><a href="ready">/ready</a>: whether it serves, condition by condition
<li><a href="metrics">/metrics</a>: for Prometheus
<li><code>/recommendations/{user_id}?k=&amp;exclude=</code>: a list for one user, made now
</ul>
</html>
"""


class WebServer:
    """Serves on the event loop it is started on, and on `settings.web` alone.

    Args:
        settings: Where to listen, and the length of a list that nobody chose.
        health: Facts for `/health`.
        readiness: Conditions by name; all of them make the worker ready.
        exposition: The metrics and their content type; called on a thread of its own.
        lookup: Makes a list; cancelled after `lookup_seconds`.
        lookup_seconds: The deadline of a look-up.
        quiet_seconds: How long a connection may say nothing, or not enough.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        health: Callable[[], Mapping[str, object]],
        readiness: Callable[[], Mapping[str, bool]],
        exposition: Callable[[], tuple[bytes, str]],
        lookup: Lookup,
        lookup_seconds: float = LOOKUP_SECONDS,
        quiet_seconds: float = QUIET_SECONDS,
    ) -> None:
        self._web = settings.web
        self._token = Token(settings.web.bearer)
        self._rate = Rate(settings.web.lookups_per_second)
        self._n_lookups = 0
        self._exposing: asyncio.Future[tuple[bytes, str]] | None = None
        self._quiet_seconds = quiet_seconds
        self._default_k = settings.lists.k
        self._health = health
        self._readiness = readiness
        self._exposition = exposition
        self._lookup = lookup
        self._lookup_seconds = lookup_seconds
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._address: str | None = None

    @property
    def address(self) -> str:
        """Give `host:port` as it is bound; known after the start."""
        if self._address is None:
            raise RuntimeError("the web server was not started yet")
        return self._address

    async def start(self) -> None:
        """Listen.

        Raises:
            StartupError: The port is taken, or the host is none of this machine's.
        """
        self._runner = web.AppRunner(self._application(), shutdown_timeout=STOP_SECONDS)
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        manager = self._runner.server
        assert manager is not None, "an application that is set up has a server"
        try:
            self._server = await loop.create_server(
                lambda: _Connection(
                    manager,
                    loop=loop,
                    max_connections=self._web.max_connections,
                    access_log=None,
                    max_line_size=_MAX_LINE_BYTES,
                    max_field_size=_MAX_LINE_BYTES,
                    max_headers=_MAX_HEADERS,
                    keepalive_timeout=self._quiet_seconds,
                    lingering_time=STOP_SECONDS / 2,
                ),
                self._web.host,
                self._web.port,
            )
        except OSError as error:
            await self.stop()
            raise StartupError(_refused(self._web.host, self._web.port, error)) from error
        self._address = _host_and_port(self._server.sockets[0].getsockname())
        log.info("web address=%s", self._address)
        if not self._token.needed and not _is_loopback(self._server.sockets[0].getsockname()[0]):
            log.warning(
                "web address=%s is not loopback, and whoever reaches it reads anybody's recommendations: "
                "set MILLSTREAM_WEB__TOKEN_FILE, or MILLSTREAM_WEB__HOST=127.0.0.1",
                self._address,
            )

    async def stop(self) -> None:
        """Stop listening, and give requests under way a moment to end."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[_errors_as_json, self._guard], client_max_size=_MAX_LINE_BYTES)
        application.on_response_prepare.append(_harden)
        application.router.add_get("/", self._answer_index)
        application.router.add_get("/health", self._answer_health)
        application.router.add_get("/ready", self._answer_ready)
        application.router.add_get("/metrics", self._answer_metrics)
        application.router.add_get(_PREFIX + "{user_id:[^/]*}", self._answer_recommendations)
        return application

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Let in who may, with a request that has no body."""
        if request.path not in _OPEN_PATHS and not self._token.accepts(request.headers.get(hdrs.AUTHORIZATION)):
            challenge: dict[str, str] = {hdrs.WWW_AUTHENTICATE: "Bearer"}
            return _json(401, {"error": "expected the token, as Authorization: Bearer ..."}, challenge)
        if request.body_exists:
            response = _json(413, {"error": "expected no body"})
            response.force_close()
            return response
        return await handler(request)

    async def _answer_index(self, _request: web.Request) -> web.Response:
        return web.Response(text=_INDEX, content_type="text/html")

    async def _answer_health(self, _request: web.Request) -> web.Response:
        return _json(200, self._health())

    async def _answer_ready(self, _request: web.Request) -> web.Response:
        conditions = self._readiness()
        ready = all(conditions.values())
        return _json(200 if ready else 503, {"ready": ready, "conditions": conditions})

    async def _answer_metrics(self, _request: web.Request) -> web.Response:
        # Some milliseconds of text: on the loop, every answer to an event would wait for it. Who asks meanwhile gets
        # the same, so that any number of requests keeps one thread busy.
        if self._exposing is None or self._exposing.done():
            self._exposing = asyncio.ensure_future(asyncio.to_thread(self._exposition))
        body, content_type = await asyncio.shield(self._exposing)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    async def _answer_recommendations(self, request: web.Request) -> web.Response:
        # The path as it came: aiohttp leaves escapes that are no UTF-8 as they stand, so two paths would be one id.
        raw = request.raw_path.partition("?")[0].removeprefix(_PREFIX)
        try:
            question = read_question(raw, request.query.items(), self._default_k)
        except WrongQuestion as error:
            return _json(400, {"error": str(error)})
        if (wait := self._rate.wait_seconds()) > 0:
            retry: dict[str, str] = {hdrs.RETRY_AFTER: str(wait)}
            return _json(429, {"error": f"expected at most {self._web.lookups_per_second} look-ups a second"}, retry)
        if self._n_lookups >= self._web.max_lookups:
            return _json(503, {"error": f"{self._n_lookups} look-ups are under way"}, _RETRY_AFTER)
        self._n_lookups += 1
        try:
            async with asyncio.timeout(self._lookup_seconds):
                answer = await self._lookup(*question)
        except TimeoutError:
            return _json(503, {"error": f"no list within {self._lookup_seconds:g} s"}, _RETRY_AFTER)
        finally:
            self._n_lookups -= 1
        if isinstance(answer, Found):
            return web.Response(body=answer.body, content_type=_JSON)
        if isinstance(answer, Elsewhere):
            return _point_to(answer, request)
        return _json(503, {"error": f"not ready: {answer.why}"}, _RETRY_AFTER)


class _Connection(web.RequestHandler):
    """aiohttp's own, but for the number of its kind, a client that takes no answer, and what it says to no HTTP.

    Its keep-alive timer runs from the last answer on, and half a request does not stop it: that is what ends slow ones.
    """

    __slots__ = ("_max_connections",)

    def __init__(self, manager: web.Server, *, max_connections: int, **options: Any) -> None:
        super().__init__(manager, **options)
        self._max_connections = max_connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take it, or close it unheard where there are too many."""
        super().connection_made(transport)
        manager = self._manager
        if manager is not None and len(manager.connections) > self._max_connections:
            self.force_close()

    def force_close(self) -> None:
        """Close; what a client has not taken a moment later is not kept for it."""
        if self.transport is not None:
            self._loop.call_later(CLOSE_SECONDS, self.transport.abort)
        super().force_close()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer, to a client that takes it."""
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                return await super().finish_response(request, resp, start_time)
        except TimeoutError:
            self.force_close()
            return resp, True

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer with one line; the connection closes after it."""
        log.debug("web refused status=%d remote=%s", status, request.remote, exc_info=exc)
        reason = "what came is no HTTP request that can be served here" if status < 500 else "internal error"
        response = _json(status, {"error": reason})
        response.headers[hdrs.SERVER] = "millstream"
        response.force_close()
        return response


@web.middleware
async def _errors_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        allow: dict[str, str] = {hdrs.ALLOW: error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else {}
        return _json(error.status, {"error": error.reason.lower()}, allow)
    except Exception:
        # Whatever a look-up meets, its client gets an answer and the worker goes on with its events.
        # The route, not the path: that holds a user's id, and line breaks if somebody likes.
        resource = request.match_info.route.resource
        log.exception("web failed route=%s", resource.canonical if resource is not None else None)
        return _json(500, {"error": "internal error"})


async def _harden(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers[hdrs.SERVER] = "millstream"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers[hdrs.CACHE_CONTROL] = "no-store"


def _json(status: int, values: object, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(values) + b"\n", content_type=_JSON, headers=headers)


def _point_to(answer: Elsewhere, request: web.Request) -> web.Response:
    facts = {"instance": answer.instance, "partition": answer.partition}
    if answer.url is not None:
        location = answer.url.rstrip("/") + request.raw_path
        headers: dict[str, str] = {hdrs.LOCATION: location}
        return _json(307, {"error": "another worker holds this user", **facts}, headers)
    return _json(421, {"error": "another worker holds this user, and advertises no address", **facts})


def _refused(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken: set MILLSTREAM_WEB__PORT to another, or to 0 for any free one"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} is not allowed to this user: set MILLSTREAM_WEB__PORT to another"
    why = error.strerror or error
    return f"cannot listen on {host} port {port} ({why}): set MILLSTREAM_WEB__HOST to an address of this machine"


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def _host_and_port(name: tuple[str, int]) -> str:
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
