"""Steady traffic, and a record of every event that the broker has acknowledged."""

import json
import random
import threading
import time
from contextlib import suppress

from confluent_kafka import KafkaException

from stream.client_errors import client_errors
from tests.e2e.checker import FUZZED
from tests.e2e.visits import START, events

STEP_SECONDS = 0.1
FLUSH_SECONDS = 60
PATIENT = {
    "message.timeout.ms": 300_000,  # a broker may be away: the producer of a shop waits as well
    "max.in.flight.requests.per.connection": 1,
    "reconnect.backoff.max.ms": 500,
    # Not metadata.recovery.strategy=none: a single broker that was held past its session is told to be gone, and such a
    # client (librdkafka 2.16) never sends again.
}


class Load:
    """Events of people and, beside them, records that are none, at a pace, from a thread of its own.

    Attributes:
        acknowledged: Places (partition, offset) that the broker has given.
        marks: Partition to the first acknowledged event that was sent since the mark and may ask for an answer.
        n_refused: Records that the broker did not take; nobody was promised anything about them.
        n_fuzzed: Records that are no events, or hardly.
        ends: What ended a client, in the words of its error; another took its place.
    """

    def __init__(self, application, per_second, fuzzed_per_second, seed):
        self.acknowledged = set()
        self.marks = {}
        self.n_refused = 0
        self.n_fuzzed = 0
        self.ends = []
        self.error = None
        self._topic = application.settings.topics.events[0]
        self._application = application
        self._producer = application.producer(**PATIENT)
        self._rates = per_second, fuzzed_per_second
        self._events = events(10**12, seed=seed, users=200, items=400)
        self._fuzzed = fuzzed(seed)
        self._recent = []
        self._marked_at = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self):
        self._thread.start()

    def stop(self):
        """Send no more; returns when all that was sent is acknowledged or refused."""
        self._stop.set()
        self._thread.join(60)
        # What is not acknowledged by then (a client may stay stuck after its broker was held) was promised to nobody.
        with suppress(KafkaException), client_errors():
            self.n_refused += self._producer.flush(FLUSH_SECONDS)
        self._producer.purge()
        if self.error is not None:
            raise RuntimeError(f"the load has failed: {self.error!r}") from self.error

    def mark(self):
        """Forget the marks: those to come are of events that are sent from now on."""
        with self._lock:
            self._marked_at, self.marks = time.monotonic(), {}

    def send(self, stream):
        """Send more events at once, from any thread."""
        for event in stream:
            answered = event["behavior"] in ("view", "click", "play", "like", "cart", "purchase")
            self._send(json.dumps(event).encode(), event["user_id"].encode(), answered=answered)

    def repeat(self, n):
        """Send the latest events again, as a producer does whose acknowledgement was lost."""
        again = self._recent[-n:]
        self.send(again)
        return len(again)

    def _run(self):
        started, sent, n_fuzzed = time.monotonic(), 0, 0
        try:
            while not self._stop.wait(STEP_SECONDS):
                elapsed = time.monotonic() - started
                due, due_fuzzed = (int(elapsed * rate) for rate in self._rates)
                fresh = [next(self._events) for _ in range(min(due - sent, 1_000))]
                sent = due
                self._recent = (self._recent + fresh)[-500:]
                self.send(fresh)
                for _ in range(min(due_fuzzed - n_fuzzed, 5_000)):
                    self._send(*next(self._fuzzed), headers=[(FUZZED, b"")])
                    self.n_fuzzed += 1
                n_fuzzed = due_fuzzed
        except Exception as error:
            self.error = error

    def _send(self, value, key, answered=False, headers=None):
        sent_at = time.monotonic()

        def delivered(error, message):
            if error is not None:
                self.n_refused += 1
                return
            place = message.partition(), message.offset()
            self.acknowledged.add(place)
            if answered and sent_at > self._marked_at:
                self.marks[place[0]] = min(place[1], self.marks.get(place[0], place[1]))

        with self._lock:
            try:
                with client_errors():
                    self._producer.produce(self._topic, value, key, headers=headers, on_delivery=delivered)
                    self._producer.poll(0)
            except KafkaException as error:
                if not error.args[0].fatal():
                    raise
                self._begin_anew(error.args[0])

    def _begin_anew(self, error):
        """Do what a shop's producer does whose client can do no more: take another, and let go of what it held."""
        self.ends.append(error.str())
        self._producer.purge()
        with suppress(KafkaException), client_errors():  # it may say so once more
            self._producer.flush(5)
        self._producer = self._application.producer(**PATIENT)


def fuzzed(seed):
    """Yield (value, key) without end: noise, events that were cut, changed in a byte, or filled with odd values.

    The users are their own: what becomes of a half-broken event is for the worker to say, and the people of the steady
    load must not depend on it.
    """
    dice = random.Random(seed)
    kinds = [_noise, _cut, _flipped, _odd, _odd]
    while True:
        yield dice.choice(kinds)(dice), b"f%d" % dice.randrange(50)


ODD = [
    *[None, True, False, 0, -1, 2**63, 2**80, 0.5, 1e308, 5.0, "", " ", "\x00", "é" * 300, "x" * 257, [], {}, [[[1]]]],
    *[
        {"a": {"b": 1}},
        ["i1"] * 101,
        "2024-02-30T00:00:00Z",
        "2024-02-03T00:00:00Z",
        "2024-02-03",
        START,
        START // 1000,
    ],
    *[{f"k{n}": "v" for n in range(400)}, "\ud800", "view", "teleport", START * 1000],
]
NAMES = ["user_id", "item_id", "behavior", "timestamp", "event_id", "items", "context", "value", "query", "position"]


def _event(dice):
    user, item = f"f{dice.randrange(50)}", f"i{dice.randrange(400)}"
    return {"user_id": user, "item_id": item, "behavior": "view", "timestamp": START + dice.randrange(10**6)}


def _noise(dice):
    if dice.random() < 0.02:
        return dice.choice([b"[", b'{"user_id":']) * 5_000  # nested deeper than any stack
    return None if dice.random() < 0.02 else dice.randbytes(dice.choice([0, 1, 8, 64, 300]))


def _cut(dice):
    value = json.dumps(_event(dice)).encode()
    return value[: dice.randrange(len(value))]


def _flipped(dice):
    """A flipped user would be one of the others' only by being `u…`, and flipping one bit of an f cannot make a u."""
    value = bytearray(json.dumps(_event(dice)).encode())
    value[dice.randrange(len(value))] ^= 1 << dice.randrange(8)
    return bytes(value)


def _odd(dice):
    changes = {dice.choice(NAMES): dice.choice(ODD) for _ in range(dice.choice([1, 1, 2]))}
    return json.dumps({**_event(dice), **changes}).encode()
