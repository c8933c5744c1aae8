"""Where facts come from besides Kafka: the worker's web address, and what the shop says on its output."""

import http.client
import json
import threading
from collections.abc import Callable
from typing import IO, Any

from stream.live.facts import Drifted, Fact, Launched, ShopStatus, Trouble
from stream.live.readings import read_exposition

POLL_SECONDS = 0.5
_ANSWER_SECONDS = 3.0


class WorkerAddress:
    """The worker's web address, asked over loopback (no proxy of the environment comes in between)."""

    def __init__(self, host: str, port: int, token: str | None = None) -> None:
        self._host = host
        self._port = port
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def get(self, path: str) -> tuple[int, bytes] | None:
        """Return status and body; None while nobody answers."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_ANSWER_SECONDS)
        try:
            connection.request("GET", path, headers=self._headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


class MetricsReader:
    """Reads the worker's metrics twice a second, on a thread of its own."""

    def __init__(self, address: WorkerAddress, hand_over: Callable[[Fact], None], clock: Callable[[], float]) -> None:
        self._address = address
        self._hand_over = hand_over
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_ANSWER_SECONDS)

    def _run(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            answer = self._address.get("/metrics")
            if answer is not None and answer[0] == 200:
                self._hand_over(read_exposition(answer[1].decode(), self._clock()))


def read_shop_line(line: bytes) -> Fact | None:
    """Read a line of `produce synthetic --control`.

    >>> read_shop_line(b'{"drifted": 500, "at": 12}')
    Drifted(at_ms=12)
    """
    try:
        said: Any = json.loads(line)
    except ValueError:
        return None
    match said:
        case {"launched": str(item_id), "title": str(title), "at": int(at)}:
            return Launched(item_id, title, at)
        case {"drifted": int(), "at": int(at)}:
            return Drifted(at)
        case {"error": str(error)}:
            return Trouble(f"the shop: {error}")
        case {"events": int(events), "best_reachable": best, "best_reachable_recent": recent}:
            return ShopStatus(events, best, recent)
    return None


def listen(lines: IO[bytes], hand_over: Callable[[Fact], None]) -> threading.Thread:
    """Hand over what the shop says, on a thread that ends with the shop's output."""

    def run() -> None:
        for line in lines:
            if (fact := read_shop_line(line)) is not None:
                hand_over(fact)

    thread = threading.Thread(target=run, name="shop", daemon=True)
    thread.start()
    return thread
