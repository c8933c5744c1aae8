"""Records of several partitions in the order of their Kafka timestamps.

A backlog is fetched partition by partition. Taken like that, one partition's evening would be learned before another's
morning; so the head with the least timestamp goes first, as in Kafka Streams. In a live stream this costs nothing, for
what waits is taken whole.
"""

import heapq
from collections import deque
from collections.abc import Container, Sequence
from typing import Generic, Protocol, TypeVar


class Timed(Protocol):
    """Something that knows when Kafka received it."""

    offset: int
    timestamp: int


_Record = TypeVar("_Record", bound=Timed)
_Key = TypeVar("_Key")


class TimeMerge(Generic[_Key, _Record]):
    """Records wait here by partition and are taken by time; within a partition their order stays."""

    def __init__(self) -> None:
        self._waiting: dict[_Key, deque[_Record]] = {}
        self._n_records = 0

    def __len__(self) -> int:
        return self._n_records

    def __contains__(self, partition: _Key) -> bool:
        return partition in self._waiting

    def add(self, partition: _Key, records: Sequence[_Record]) -> None:
        """Append records of one partition."""
        if records:
            self._waiting.setdefault(partition, deque()).extend(records)
            self._n_records += len(records)

    def clear(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        self._n_records = 0

    def oldest(self) -> int:
        """Return the least timestamp among the heads, ms.

        Raises:
            ValueError: Nothing waits.
        """
        return min(records[0].timestamp for records in self._waiting.values())

    def take(self, n_records: int, incomplete: Container[_Key] = ()) -> tuple[list[_Record], dict[_Key, int]]:
        """Take up to `n_records`, oldest first.

        Args:
            n_records: At most.
            incomplete: Partitions whose next records are still on their way: when the last one that waits of such a
                partition is taken, the rest waits for them.

        Returns:
            The records, and for each partition the offset after the last of its records among them.
        """
        heads = [(records[0].timestamp, index, key) for index, (key, records) in enumerate(self._waiting.items())]
        heapq.heapify(heads)
        taken: list[_Record] = []
        positions: dict[_Key, int] = {}
        while heads and len(taken) < n_records:
            _, index, key = heads[0]
            records = self._waiting[key]
            record = records.popleft()
            taken.append(record)
            positions[key] = record.offset + 1
            if records:
                heapq.heapreplace(heads, (records[0].timestamp, index, key))
                continue
            heapq.heappop(heads)
            del self._waiting[key]
            if key in incomplete:
                break
        self._n_records -= len(taken)
        return taken, positions
