"""What a failed transaction of the trainer's comes to: fenced, to be tried again, or the end. Kafka is played."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from stream import positions as module
from stream.example_log import ExampleLog
from stream.positions import NotCommitted, Positions
from stream.settings import KafkaSettings, Settings
from stream.trainer_errors import TrainerError, TrainerFenced

SETTINGS = Settings(kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1"))
AT = TopicPartition("examples", 0, 7)


class Client:
    """A transactional producer that fails where it is told to."""

    def __init__(self, send: KafkaError | None = None, commit: KafkaError | None = None) -> None:
        self._send = send
        self.commit_error = commit
        self.n_begun = self.n_aborted = self.n_committed = 0

    def begin_transaction(self) -> None:
        self.n_begun += 1

    def send_offsets_to_transaction(self, *_: object) -> None:
        if self._send is not None:
            raise KafkaException(self._send)

    def commit_transaction(self, _: float) -> None:
        if self.commit_error is not None:
            raise KafkaException(self.commit_error)
        self.n_committed += 1

    def abort_transaction(self, _: float) -> None:
        self.n_aborted += 1


def positions(client: Client) -> Positions:
    made = Positions(SETTINGS)
    made._producer = client  # type: ignore[assignment]
    return made


FENCED = [KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED]
PASSING = [KafkaError.FENCED_INSTANCE_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID]


@pytest.mark.parametrize("code", FENCED)
@pytest.mark.parametrize("asked", [Positions.commit, Positions.prove])
def test_whoever_was_replaced_is_told_so(code: int, asked: Callable[..., None]) -> None:
    """Red where a code is left out of those that mean it: another attempt would follow, for ever."""
    with pytest.raises(TrainerFenced, match="taken over"):
        asked(positions(Client(send=KafkaError(code))), AT, None)


@pytest.mark.parametrize("code", PASSING)
def test_a_group_that_changes_costs_an_attempt_and_proves_nothing_bad(code: int) -> None:
    """Red where a static member's own new id counts as another trainer, or a proof as failed."""
    client = Client(send=KafkaError(code))
    with pytest.raises(NotCommitted):
        positions(client).commit(AT, None)
    assert client.n_aborted == 1
    positions(Client(send=KafkaError(code))).prove(AT, None)


def test_a_broker_that_does_not_say_proves_nothing() -> None:
    """Red where any failure that is none of fencing counts as a proof."""
    with pytest.raises(NotCommitted):
        positions(Client(send=KafkaError(KafkaError._TIMED_OUT))).prove(AT, None)


def test_a_fatal_error_ends_the_trainer_which_starts_again_with_a_client_that_works() -> None:
    """Red where it is one to be tried again."""
    with pytest.raises(TrainerError, match="cannot go on"):
        positions(Client(send=KafkaError(KafkaError._FATAL, "gone", fatal=True))).commit(AT, None)


def test_a_commit_that_was_not_answered_is_finished_before_the_next_begins() -> None:
    """Red where it is begun anew: librdkafka refuses that, and no position is committed any more."""
    client = Client(commit=KafkaError(KafkaError._TIMED_OUT))
    made = positions(client)
    with pytest.raises(NotCommitted):
        made.commit(AT, None)
    assert client.n_aborted == 0  # it may have happened
    client.commit_error = None
    made.commit(AT, None)
    assert client.n_committed == client.n_begun == 2


def test_a_call_that_hangs_in_the_client_ends_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Red where it is waited for: learning goes on, and no checkpoint is ever written again."""
    monkeypatch.setattr(module, "HANG_SECONDS", 0.05)
    client, hang = Client(), threading.Event()
    monkeypatch.setattr(client, "begin_transaction", lambda: hang.wait(30))
    with pytest.raises(TrainerError, match="hangs in the Kafka client"):
        positions(client).commit(AT, None)
    hang.set()


FENCED_MEMBER = KafkaError(KafkaError.FENCED_INSTANCE_ID)
FENCED_CLIENT = KafkaError(KafkaError._FATAL, "static consumer fenced by other consumer", fatal=True)


@pytest.mark.parametrize(
    ("error", "has_rival", "kind"),
    [
        *[(error, True, TrainerFenced) for error in (FENCED_MEMBER, FENCED_CLIENT)],
        *[(error, False, TrainerError) for error in (FENCED_MEMBER, FENCED_CLIENT)],
        (KafkaError(KafkaError._FATAL, "no more", fatal=True), True, TrainerError),
        (KafkaError(KafkaError._FATAL, "no more"), True, TrainerError),  # as it comes in place of a message
        (KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), True, TrainerError),
        (KafkaError(KafkaError._TRANSPORT), True, None),
    ],
)
def test_an_error_of_reading_is_a_rival_s_deed_or_an_end_or_waited_for(
    error: KafkaError, has_rival: bool, kind: type[Exception] | None
) -> None:
    """Red where fencing is not told from other ends: a supervisor would start this trainer again at once."""

    def prove() -> None:
        if has_rival:
            raise TrainerFenced("another has the transactional id")

    def judge() -> type[Exception] | None:
        log: Any = SimpleNamespace(_group="g", _partition=AT, _logged_at=0.0, _prove=prove)
        try:
            ExampleLog._judge(log, error)
        except TrainerError as raised:
            return type(raised)
        return None

    assert judge() is kind
