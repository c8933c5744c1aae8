"""Whether answers flow, as somebody sees it who reads the recommendations; and what memory the workers hold."""

import threading
import time

import psutil
from confluent_kafka import Consumer, KafkaException, TopicPartition

from stream.records import decode_recommendation


class Flow:
    """Reads the recommendations all the time.

    Attributes:
        answered: Partition of the events to the highest offset in it that has a list.
    """

    def __init__(self, application):
        self.answered = {}
        self._application = application
        self._positions = {}
        self._stop = threading.Event()
        self._again = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flow", daemon=True)

    def start(self):
        self._thread.start()

    def stop(self):
        self._stop.set()
        self._thread.join(30)

    def reconnect(self):
        """Take a new client: one that lived through the end of its broker may stay without the topic."""
        self._again.set()

    def until(self, load, seconds):
        """Wait until an event sent from now on is answered in every partition; give the seconds, None if they do not.

        That it was sent since is what counts: of what was acknowledged before, all may have been answered before.
        """
        load.mark()
        started = time.monotonic()
        while not self._is_beyond(dict(load.marks)):
            if time.monotonic() - started > seconds:
                return None
            time.sleep(0.02)
        return time.monotonic() - started

    def _is_beyond(self, marks):
        partitions = range(self._application.partitions)
        return all(p in marks and self.answered.get(p, -1) >= marks[p] for p in partitions)

    def _run(self):
        while not self._stop.is_set():
            self._again.clear()
            consumer = self._consumer()
            try:
                self._follow(consumer)
            except KafkaException:
                time.sleep(0.2)  # the broker is away
            finally:
                consumer.close()

    def _consumer(self):
        return Consumer(
            {
                "bootstrap.servers": self._application.bootstrap,
                "group.id": "soak-flow",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )

    def _follow(self, consumer):
        topic = self._application.settings.topics.recommendations
        partitions = consumer.list_topics(topic, timeout=5).topics[topic].partitions
        consumer.assign([TopicPartition(topic, p, self._positions.get(p, 0)) for p in partitions])
        while not (self._stop.is_set() or self._again.is_set()):
            for message in consumer.consume(1000, 0.05):
                if message.error() is None:
                    self._positions[message.partition()] = message.offset() + 1
                    self._note(decode_recommendation(message.value()))

    def _note(self, answer):
        for trigger in (answer.trigger, *(answer.also_answers or ())):
            self.answered[trigger.partition] = max(trigger.offset, self.answered.get(trigger.partition, -1))


class Memory:
    """Resident memory of processes and all their children, sampled."""

    def __init__(self, pids):
        self.samples = []
        self._pids = pids
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def start(self):
        self._thread.start()

    def stop(self):
        self._stop.set()
        self._thread.join(30)

    def by_tenth(self):
        """The highest MiB of each tenth of the run."""
        length = (time.monotonic() - self._started) / 10
        tenths = [[mib for at, mib in self.samples if int(at / length) == tenth] for tenth in range(10)]
        return [max(tenth, default=0.0) for tenth in tenths]

    def _run(self):
        while not self._stop.wait(1.0):
            self.samples.append((time.monotonic() - self._started, sum(_mib(pid) for pid in self._pids())))


def _mib(pid):
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(one.memory_info().rss for one in family) / 2**20
    except psutil.Error:  # it has just ended
        return 0.0
