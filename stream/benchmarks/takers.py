"""Ways of taking events, each to be run in a process of its own by `stream.benchmarks.intake`.

Ours is the product's intake, states, answers, examples and transactions, with a model that always says the same. The
others do less: they keep a user's last 20 items with a changelog, and answer with the last three.

    python -m stream.benchmarks.takers WAY EVENTS BATCH LIST_LENGTH
"""

import asyncio
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from stream.settings import Settings, load_settings

FLUSH_SECONDS = 30.0
COMMIT_SECONDS = 1.0
WINDOW = 20
ANSWERED = 3

_decode = msgspec.json.decode
_encode = msgspec.json.encode


class Meter:
    """Says on standard output when the first events are done and when all of them are.

    Args:
        n_events: How many there are.
    """

    def __init__(self, n_events: int) -> None:
        self._n_events = n_events
        self._n_done = 0

    @property
    def done(self) -> bool:
        """Whether all events are done."""
        return self._n_done >= self._n_events

    def count(self, n_events: int) -> None:
        """Take note that so many more are done."""
        if not n_events or self.done:
            return
        first = not self._n_done
        self._n_done += n_events
        if first or self.done:
            self._say()

    def _say(self) -> None:
        reading = {
            "events": self._n_done,
            "seconds": time.monotonic(),
            "cpu": time.process_time(),
            "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(reading), flush=True)


def bare(settings: Settings, meter: Meter, batch: int, _: int) -> None:
    """confluent-kafka: consume, produce, flush."""
    from confluent_kafka import Consumer

    producer = _producer(settings)
    consumer = Consumer(
        {
            **settings.librdkafka(),
            "group.id": settings.app_id,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 50,
        }
    )
    consumer.subscribe(settings.topics.events)
    answers, committed_at = settings.topics.recommendations, time.monotonic()
    while not meter.done:
        messages = consumer.consume(batch, 0.05)
        for message in messages:
            producer.produce(answers, message.value(), message.key())
        _flush(producer)
        if messages and time.monotonic() - committed_at > COMMIT_SECONDS:
            consumer.commit(asynchronous=False)
            committed_at = time.monotonic()
        meter.count(len(messages))


def ours(settings: Settings, meter: Meter, _: int, list_length: int) -> None:
    """What a worker is made of, but the model and the trainer."""
    import uvloop

    from stream.benchmarks.modelless import take

    async def work() -> None:
        await take(settings, list_length, meter.count, lambda: meter.done)
        leave()

    uvloop.run(work())


def take(settings: Settings, meter: Meter, batch: int, _: int) -> None:
    """Faust, as its manual has it for batches; outputs and states go through one confluent-kafka producer."""
    app, events = _faust(settings)
    producer = _producer(settings)
    states: dict[bytes, list[Any]] = {}
    answers, changelog = settings.topics.recommendations, settings.user_state_topic

    async def work(stream: Any) -> None:
        async for taken in stream.noack_take(batch, within=0.02):
            touched: dict[bytes, int] = {}
            for event in taken:
                message = event.message
                answer = _apply(states.setdefault(message.key, [-1, []]), message.value, message.offset)
                touched[message.key] = message.partition
                producer.produce(answers, answer, message.key)
            for key, partition in touched.items():
                producer.produce(changelog, _encode(states[key]), key, partition=partition)
            await asyncio.get_running_loop().run_in_executor(None, _flush, producer)
            for event in taken:
                await stream.ack(event)
            meter.count(len(taken))

    app.agent(events)(work)
    _run(app, meter)


def naive(settings: Settings, meter: Meter, _: int, __: int) -> None:
    """Faust, as its manual begins: one event at a time, a table, `await topic.send`."""
    app, events = _faust(settings)
    answers = app.topic(settings.topics.recommendations, key_serializer="raw", value_serializer="raw")
    states = app.Table("states", key_type=bytes, value_type=bytes)

    async def work(stream: Any) -> None:
        async for event in stream.events():
            kept = states.get(event.key)
            state = [-1, []] if kept is None else _decode(kept)
            answer = _apply(state, event.value, event.message.offset)
            states[event.key] = _encode(state)
            await answers.send(key=event.key, value=answer)
            meter.count(1)

    app.agent(events)(work)
    _run(app, meter)


def _apply(state: list[Any], value: bytes, offset: int) -> bytes:
    """Remember an event's item, and return an answer."""
    event = _decode(value)
    if offset > state[0]:
        state[0] = offset
        state[1] = [*state[1], event.get("item_id")][-WINDOW:]
    return _encode([event.get("event_id"), state[1][-ANSWERED:]])


def _producer(settings: Settings) -> Any:
    from confluent_kafka import Producer

    return Producer(
        {
            **settings.librdkafka(),
            "acks": "all",
            "linger.ms": 5,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 500_000,
        }
    )


def _flush(producer: Any) -> None:
    if left := producer.flush(FLUSH_SECONDS):
        raise RuntimeError(f"{left} answers were not delivered")


def _faust(settings: Settings) -> tuple[Any, Any]:
    import faust

    app = faust.App(
        settings.app_id,
        broker=f"kafka://{settings.kafka.bootstrap_servers}",
        topic_partitions=settings.topics.partitions,
        topic_replication_factor=1,
        topic_disable_leader=True,
        stream_wait_empty=False,
        consumer_auto_offset_reset="earliest",
        store="memory://",
        datadir=settings.data_dir,
        web_enabled=False,
    )
    return app, app.topic(*settings.topics.events, key_serializer="raw", value_serializer="raw")


def _run(app: Any, meter: Meter) -> None:
    """Be a Faust worker until all is done."""

    async def work() -> None:
        app.finalize()
        await app.maybe_start()
        while not meter.done:
            await asyncio.sleep(0.05)
        leave()

    asyncio.run(work())


def leave() -> None:
    """End the process without ceremony: what is measured is over, and a stream application takes its time to stop."""
    sys.stdout.flush()
    os._exit(0)


WAYS: dict[str, Callable[[Settings, Meter, int, int], None]] = {
    "bare": bare,
    "ours": ours,
    "take": take,
    "naive": naive,
}


def main() -> None:
    """Take events the way that the command line names."""
    logging.basicConfig(level="WARNING")
    way, n_events, batch, list_length = sys.argv[1], *map(int, sys.argv[2:])
    WAYS[way](load_settings(), Meter(n_events), batch, list_length)
    leave()


if __name__ == "__main__":
    main()
