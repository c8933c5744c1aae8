"""The state of an assignment comes into memory, if it belongs here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from monitoring.metrics import Metrics
from stream.identity import Identity
from stream.intake import Assignment, Partition
from stream.loading import IDENTITY_KEY, Loader
from stream.recovery import RecoveryError
from stream.settings import Settings

NOW = Identity("cluster", {"user-events": "new-topic-id"})
BEFORE = Identity("cluster", {"user-events": "old-topic-id"})


class Stored(NamedTuple):
    """A changelog record, as confluent-kafka hands it over."""

    stored_key: bytes
    stored_value: bytes | None
    number: int = 0

    def key(self) -> bytes:
        return self.stored_key

    def value(self) -> bytes | None:
        return self.stored_value

    def partition(self) -> int:
        return self.number


class Committed:
    """Takes the place of the transactional producer."""

    def __init__(self) -> None:
        self.partitions: list[int] = []
        self.ended: list[int] = []
        self.open: set[int] = set()
        self.unsettled = False

    def recover(self) -> None:
        """Nothing was interrupted."""

    def end_hanging(self, partitions: list[int]) -> None:
        self.ended += partitions

    def commit(self, changes: Any, positions: object, assignment: object) -> None:
        self.partitions += [change.partition for change in changes]


Load = Callable[[list[Stored]], list[str]]


@pytest.fixture
def committed() -> Committed:
    return Committed()


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, committed: Committed) -> Load:
    """Give `load(records)`: the ids of the users that a changelog of one partition brings into memory."""
    settings = Settings(kafka={"bootstrap_servers": "127.0.0.1:1"}, data_dir=tmp_path)  # type: ignore[arg-type]
    loader = Loader(settings, NOW, 2, committed, Metrics(CollectorRegistry()))  # type: ignore[arg-type]

    def run(records: list[Stored]) -> list[str]:
        def read(_settings: Settings, _partitions: object, apply: Callable[[Stored], None]) -> int:
            for record in records:
                apply(record)
            return len(records)

        monkeypatch.setattr("stream.loading.read_changelog", read)
        monkeypatch.setattr("stream.loading.undecided", lambda _, partitions, __: {*partitions} & committed.open)
        monkeypatch.setattr(loader, "_offsets", lambda *_: type("Nothing", (), {"positions": {}}))
        return list(loader.load(Assignment(1, "m", frozenset({Partition("user-events", 0)}))))

    return run


def test_a_changelog_of_these_topics_is_taken(load: Load, committed: Committed) -> None:
    assert load([Stored(IDENTITY_KEY, NOW.dumps()), Stored(b"u1", b"state")]) == ["u1"]
    assert committed.partitions == []


def test_a_changelog_of_other_topics_is_refused(load: Load) -> None:
    """Red where identities are not compared."""
    with pytest.raises(RecoveryError, match=r"made anew.*millstream reset --offsets"):
        load([Stored(IDENTITY_KEY, BEFORE.dumps()), Stored(b"u1", b"state")])


def test_an_identity_that_cannot_be_read_is_none_of_ours(load: Load) -> None:
    """Red where it is passed over like one that was erased."""
    with pytest.raises(RecoveryError, match="cannot be read"):
        load([Stored(IDENTITY_KEY, b"{"), Stored(b"u1", b"state")])


def test_after_a_reset_the_identity_of_before_stands_in_the_log_and_does_not_count(load: Load) -> None:
    """Red where the first one counts."""
    log = [Stored(IDENTITY_KEY, BEFORE.dumps()), Stored(b"u1", b"state"), Stored(IDENTITY_KEY, NOW.dumps())]
    assert load(log) == ["u1"]


def test_an_empty_changelog_begins_with_its_identity(load: Load, committed: Committed) -> None:
    """Red where nothing is written to begin with."""
    assert load([]) == []
    assert committed.partitions == [0]


def test_what_is_left_open_in_any_partition_is_ended(load: Load, committed: Committed) -> None:
    """Of partition 1 too, which somebody else holds now, and waits for."""
    load([Stored(IDENTITY_KEY, NOW.dumps())])
    assert committed.ended == []
    committed.open = {0, 1}
    load([Stored(IDENTITY_KEY, NOW.dumps())])
    assert committed.ended == [0, 1]


def test_after_a_start_all_that_may_hang_is_ended_without_a_look(load: Load, committed: Committed) -> None:
    """Red where the changelog is asked: offsets may hang where its states were told, and nobody sees that."""
    committed.unsettled = True
    load([Stored(IDENTITY_KEY, NOW.dumps())])
    assert committed.ended == [0, 1]
