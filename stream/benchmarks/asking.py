"""Clients that ask a worker for lists over kept connections: at a steady rate, or each as soon as it has its answer.

A client of our own, because whatever it costs is taken from the cores that the worker needs: a request is one line
written and one length read.
"""

import asyncio
import json
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import uvloop

from stream.benchmarks.latency import quantiles
from stream.errors import StartupError

_WRK = """
local users = {}
for line in io.lines("%s") do users[#users + 1] = line end
request = function() return wrk.format("GET", "/recommendations/" .. users[math.random(#users)]) end
done = function(summary, latency, requests)
  local of = {50, 95, 99}
  io.write(string.format("MEASURED %%d %%d %%d", summary.requests, summary.duration, summary.errors.status))
  for i, p in ipairs(of) do io.write(string.format(" %%.3f", latency:percentile(p) / 1000)) end
  io.write(string.format(" %%.3f\\n", latency.max / 1000))
end
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client saw.

    Attributes:
        per_second: Lists that came.
        failed: Answers that were no list.
        milliseconds: Quantiles of the wait.
        client_cores: What the client itself used.
    """

    per_second: float
    failed: int
    milliseconds: dict[str, float]
    client_cores: float

    def figures(self) -> dict[str, float]:
        """Return it as it stands in a table."""
        return {
            "per_second": self.per_second,
            **self.milliseconds,
            "failed": self.failed,
            "client_cores": self.client_cores,
        }


class Connection(asyncio.Protocol):
    """One kept connection with one request under way at most."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own has no such base

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what is under way, and all that comes after."""
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(f"the worker closed the connection: {error}"))

    def data_received(self, data: bytes) -> None:
        """Complete the answer once all of it is here."""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or self._answer is None or self._answer.done():
            return
        if len(body) >= _content_length(head):
            self._received = bytearray()
            self._answer.set_result((int(head[9:12]), bytes(body)))

    def ask(self, user: str) -> "asyncio.Future[tuple[int, bytes]]":
        """Ask for a user's list; gives status and body."""
        if self._transport is None:
            raise ConnectionError("the worker closed the connection")
        self._answer = asyncio.get_running_loop().create_future()
        path = quote(user, safe="")
        self._transport.write(f"GET /recommendations/{path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        return self._answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


def _content_length(head: bytes | bytearray) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def connect(address: str) -> Connection:
    """Open a connection to `host:port`."""
    host, _, port = address.rpartition(":")
    _, connection = await asyncio.get_running_loop().create_connection(Connection, host, int(port))
    return connection


def at_rate(address: str, users: Sequence[str], rate: float, seconds: float, n_connections: int) -> Asked:
    """Ask so many times a second, whether or not answers keep up; a wait begins when a request is due.

    A client that waits for one answer before it asks again would leave out just the waits that are long.
    """

    async def ask(waits: list[float], failed: list[float]) -> None:
        free: asyncio.Queue[Connection] = asyncio.Queue()
        for _ in range(n_connections):
            free.put_nowait(await connect(address))

        async def one(due: float) -> None:
            connection = await free.get()
            status, _ = await connection.ask(random.choice(users))
            (waits if status == 200 else failed).append((time.perf_counter() - due) * 1000)
            free.put_nowait(connection)

        begin = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for number in range(round(rate * seconds)):
                due = begin + number / rate
                if (delay := due - time.perf_counter()) > 0:
                    await asyncio.sleep(delay)
                tasks.create_task(one(due))
        while not free.empty():
            free.get_nowait().close()

    return _timed(ask)


def flat_out(address: str, users: Sequence[str], seconds: float, n_connections: int) -> Asked:
    """Ask over so many connections, on each as soon as the last answer is there."""

    async def ask(waits: list[float], failed: list[float]) -> None:
        end = time.perf_counter() + seconds

        async def one() -> None:
            connection = await connect(address)
            while (began := time.perf_counter()) < end:
                status, _ = await connection.ask(random.choice(users))
                (waits if status == 200 else failed).append((time.perf_counter() - began) * 1000)
            connection.close()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(n_connections):
                tasks.create_task(one())

    return _timed(ask)


def _timed(ask: Callable[[list[float], list[float]], Coroutine[Any, Any, None]]) -> Asked:
    waits: list[float] = []
    failed: list[float] = []
    began, used = time.perf_counter(), time.process_time()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask(waits, failed))
    elapsed = time.perf_counter() - began
    cores = (time.process_time() - used) / elapsed
    return Asked(len(waits) / elapsed, len(failed), quantiles(waits), cores)


def wrk(address: str, users: Sequence[str], seconds: float, n_connections: int, folder: Path) -> Asked:
    """Let wrk do what `flat_out` does, at less cost.

    Raises:
        StartupError: It failed.
    """
    (folder / "users").write_text("\n".join(quote(user, safe="") for user in users) + "\n")
    script = folder / "wrk.lua"
    script.write_text(_WRK % (folder / "users"))
    command = ["wrk", "-t1", f"-c{n_connections}", f"-d{round(seconds)}s", "-s", str(script), f"http://{address}/"]
    used = _children_cpu()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StartupError(f"wrk: {done.stderr.strip() or done.stdout.strip()}")
    return read_wrk(done.stdout, _children_cpu() - used)


def read_wrk(output: str, cpu_seconds: float) -> Asked:
    """Read what the script above made wrk print.

    >>> read_wrk("MEASURED 3000 2000000 3 0.9 2.5 4.0 7.1", 0.5).per_second
    1498.5
    """
    words = next(line for line in output.splitlines() if line.startswith("MEASURED ")).split()[1:]
    n, microseconds, failed = (int(word) for word in words[:3])
    names = ("p50_ms", "p95_ms", "p99_ms", "max_ms")
    seconds = microseconds / 1e6
    waits = dict(zip(names, map(float, words[3:]), strict=True))
    return Asked((n - failed) / seconds, failed, waits, cpu_seconds / seconds)


def has_wrk() -> bool:
    """Say whether wrk is installed."""
    return shutil.which("wrk") is not None


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def list_of(address: str, user: str, k: int) -> Callable[[], list[str]]:
    """Return a function that asks for a user's list of `k` over one kept connection and gives its items."""
    import http.client

    connection = http.client.HTTPConnection(address, timeout=10)

    def ask() -> list[str]:
        connection.request("GET", f"/recommendations/{quote(user, safe='')}?k={k}")
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise StartupError(f"the worker answered {response.status} to a look-up: {body.decode(errors='replace')}")
        return [item["item_id"] for item in json.loads(body)["items"]]

    return ask
