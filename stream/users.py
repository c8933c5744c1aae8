"""The states of the users whose home is here: what is committed, and what is published and about to be.

A batch reads through three layers: its own changes, the changes of batches that are published and not yet committed,
and what is committed. Only a committed transaction moves changes down; when one fails, the upper layers are dropped.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from threading import Lock

from aiokafka.partitioner import murmur2

from stream.delivery import StateChange
from stream.state import EMPTY, UserState, decode_state, encode_state

Overlay = dict[str, UserState]
"""User id to the state after a batch."""


@lru_cache(maxsize=65_536)
def home_partition(user_id: str, n_partitions: int) -> int:
    """Return the partition that a user's events belong to: murmur2, as Java clients and Faust choose it.

    >>> home_partition("u1", 1)
    0
    """
    return int((murmur2(user_id.encode()) & 0x7FFFFFFF) % n_partitions)


class UserTable:
    """User states, encoded: objects would take ten times the memory.

    The order of the dictionary is that of the last change, so that the least recently active user is found first.

    Args:
        n_partitions: Of the source topics.
        max_users: The least recently active beyond this leave, each by a tombstone.
    """

    def __init__(self, n_partitions: int, max_users: int) -> None:
        self.n_partitions = n_partitions
        self.max_users = max_users
        self._committed: dict[str, bytes] = {}
        self._overlays: tuple[Overlay, ...] = ()
        self._changing_overlays = Lock()

    def __len__(self) -> int:
        return len(self._committed)

    def __iter__(self) -> Iterator[str]:
        return iter(self._committed)

    def restore(self, user_id: str, value: bytes | None) -> None:
        """Take a record of the changelog; the last one of a user wins."""
        self._committed.pop(user_id, None)
        if value is not None:
            self._committed[user_id] = value

    def get(self, user_id: str, *uncommitted: Overlay) -> UserState:
        """Return a user's newest state; `uncommitted` are layers above those known here, newest first."""
        for overlay in (*uncommitted, *self._overlays):
            if (state := overlay.get(user_id)) is not None:
                return state
        value = self._committed.get(user_id)
        return EMPTY if value is None else decode_state(value)

    def push(self, overlay: Overlay) -> None:
        """Lay a published batch's changes over what is there."""
        with self._changing_overlays:  # batches are pushed in one thread and committed in another
            self._overlays = (overlay, *self._overlays)

    def changes(self, overlays: Iterable[Overlay]) -> list[StateChange]:
        """Return what a transaction of these batches, oldest first, writes: their users' states, and who leaves."""
        merged: Overlay = {}
        for overlay in overlays:
            merged.update(overlay)
        changes = [self._change(user_id, encode_state(state)) for user_id, state in merged.items()]
        return changes + [self._change(user_id, None) for user_id in self._leaving(merged)]

    def commit(self, overlays: Iterable[Overlay], changes: Iterable[StateChange]) -> None:
        """The transaction that wrote `changes` of `overlays` has happened: they are the table now.

        The layers go last, so that a reader finds a user's new state in one of the two places at any moment.
        """
        for change in changes:
            self.restore(change.key.decode(), change.value)
        done = {id(overlay) for overlay in overlays}
        with self._changing_overlays:
            self._overlays = tuple(overlay for overlay in self._overlays if id(overlay) not in done)

    def _change(self, user_id: str, value: bytes | None) -> StateChange:
        return StateChange(home_partition(user_id, self.n_partitions), user_id.encode(), value)

    def _leaving(self, merged: Mapping[str, UserState]) -> list[str]:
        excess = len(self._committed) + sum(user_id not in self._committed for user_id in merged) - self.max_users
        if excess <= 0:
            return []
        leaving: list[str] = []
        for user_id in self._committed:
            if len(leaving) == excess:
                break
            if user_id not in merged and not any(user_id in overlay for overlay in self._overlays):
                leaving.append(user_id)
        return leaving
