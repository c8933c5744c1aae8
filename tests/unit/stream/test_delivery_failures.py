"""What a failed transaction comes to: dropped and gone on with, taken over, or the end."""

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from stream.delivery import Committer, DeliveryFailed, Fenced, GenerationOver, Outage, Output, Publisher, StateChange
from stream.intake import Assignment, Partition
from stream.settings import KafkaSettings, Settings

PATIENCE = 10.0
ASSIGNMENT = Assignment(1, "m", frozenset({Partition("events", 0)}))


class Client:
    """A transactional producer whose commit fails, and whose abort may fail too."""

    def __init__(
        self,
        error: KafkaError,
        abort: KafkaError | None = None,
        undelivered: KafkaError | None = None,
        masked: KafkaError | None = None,
    ) -> None:
        self._error = error
        self._abort = abort
        self._undelivered = undelivered
        self._masked = masked
        self.n_aborted = 0
        self.on_delivery: Callable[[KafkaError | None, object], None] | None = None

    def begin_transaction(self) -> None:
        """Begin."""

    def produce(self, *_: Any, **__: Any) -> None:
        if self._undelivered is not None and self.on_delivery is not None:
            self.on_delivery(self._undelivered, None)

    def poll(self, _: float) -> int:
        return 0

    def flush(self, _: float) -> int:
        if self._masked is not None:
            raise SystemError("a report returned a result with an exception set") from KafkaException(self._masked)
        return 0

    def send_offsets_to_transaction(self, *_: object) -> None:
        raise KafkaException(self._error)

    def abort_transaction(self, *_: object) -> None:
        if self._abort is not None:
            raise KafkaException(self._abort)
        self.n_aborted += 1


def committer(client: Client) -> Committer:
    kafka = KafkaSettings(bootstrap_servers="127.0.0.1:1", transaction_timeout_seconds=PATIENCE)
    made = Committer(Settings(kafka=kafka), "instance")
    made._producer = client  # type: ignore[assignment]
    client.on_delivery = made._deliveries.config["on_delivery"]
    return made


def outcome(client: Client) -> BaseException:
    made = committer(client)
    with pytest.raises((DeliveryFailed, GenerationOver)) as failure:
        made.commit([StateChange(0, b"u", b"v")], {Partition("events", 0): 1}, ASSIGNMENT)
    if type(failure.value) is Outage:
        # Whatever comes before the recovery must not use the client whose transaction is undecided.
        with pytest.raises(Outage, match="undecided"):
            made.commit([], {}, ASSIGNMENT)
        assert client.n_aborted == 0
    return failure.value


@pytest.mark.parametrize(
    "code",
    [
        KafkaError._TIMED_OUT,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
    ],
)
def test_a_broker_that_does_not_answer_is_an_outage(code: int) -> None:
    """Red where one of these codes does not count as passing, and where the undecided transaction is forgotten."""
    assert type(outcome(Client(KafkaError(code)))) is Outage


@pytest.mark.parametrize(
    "code",
    [KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_INSTANCE_ID],
)
def test_a_group_that_has_moved_on_is_no_failure_once_the_transaction_is_aborted(code: int) -> None:
    """Red where one of the codes is left out, and where nothing is aborted.

    A successor's recovery would wait for it.
    """
    client = Client(KafkaError(code))
    assert type(outcome(client)) is GenerationOver
    assert client.n_aborted == 1
    assert type(outcome(Client(KafkaError(code), abort=KafkaError(KafkaError._TIMED_OUT)))) is Outage


@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.MSG_SIZE_TOO_LARGE])
def test_a_refusal_ends_the_process(code: int) -> None:
    """Red without the abort that the client asks for."""
    client = Client(KafkaError(code, "no", False, False, True))
    assert type(outcome(client)) is DeliveryFailed
    assert client.n_aborted == 1


@pytest.mark.parametrize("code", [KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH])
def test_a_fenced_transaction_is_a_twin_s_deed_unless_the_broker_had_time_to_give_it_up(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red where the age of the transaction is not looked at: one of the two would be taken for the other."""
    fenced = KafkaError(code, "fenced", True)
    assert type(outcome(Client(fenced))) is Fenced
    now = iter(range(0, 1000, int(PATIENCE) + 1))
    monkeypatch.setattr("stream.delivery.monotonic", lambda: float(next(now)))
    assert type(outcome(Client(fenced))) is Outage


def test_records_of_a_fenced_producer_are_purged_and_the_abort_says_why() -> None:
    """Red where a purged record counts as an outage: the worker would take its id back from its twin.

    Red, too, where the abort's own error is not asked.
    """
    purged, fenced = KafkaError(KafkaError._PURGE_QUEUE), KafkaError(KafkaError._FENCED, "fenced", True)
    assert type(outcome(Client(fenced, abort=fenced, undelivered=purged))) is Fenced
    refused = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    assert type(outcome(Client(fenced, undelivered=refused))) is DeliveryFailed
    away = KafkaError(KafkaError._MSG_TIMED_OUT)
    assert type(outcome(Client(fenced, undelivered=away))) is Outage


def test_a_fatal_error_that_came_between_two_reports_is_told_as_itself() -> None:
    """Red without `client_errors`: the worker then ended as crashed, not as fenced."""
    fenced = KafkaError(KafkaError._FENCED, "a newer instance", fatal=True)
    assert isinstance(outcome(Client(fenced, masked=fenced)), Fenced)


class Silent(Client):
    """A client whose flush ends with a record that nobody acknowledged and nobody refused."""

    def flush(self, _: float) -> int:
        return 1


class Whole(Client):
    """A client that works."""

    def __init__(self) -> None:
        super().__init__(KafkaError(KafkaError.NO_ERROR))
        self.n_committed = 0

    def init_transactions(self, *_: object) -> None:
        """Fence predecessors."""

    def send_offsets_to_transaction(self, *_: object) -> None:
        """Take them."""

    def commit_transaction(self, *_: object) -> None:
        self.n_committed += 1

    def purge(self) -> None:
        """Forget what is queued."""


def test_what_is_left_after_a_flush_is_not_taken_for_delivered() -> None:
    """Red where only reports of errors count: a broker that is away reports nothing until the delivery times out."""
    assert type(outcome(Silent(KafkaError(KafkaError._FENCED)))) is Outage
    publisher = Publisher(Settings(kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1")))
    publisher._producer = silent = Silent(KafkaError(KafkaError._FENCED))  # type: ignore[assignment]
    silent.purge = lambda: None  # type: ignore[attr-defined]
    with pytest.raises(Outage):
        publisher.publish([Output("answers", b"u", b"v")])
    # Red where it is kept: what it still holds would be delivered later, behind newer answers.
    assert publisher._producer is not silent  # type: ignore[comparison-overlap]


def test_after_an_outage_a_new_client_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Red where the old one is kept, whose transaction is undecided."""
    client, successor = Client(KafkaError(KafkaError._TIMED_OUT)), Whole()
    client.purge = lambda: None  # type: ignore[attr-defined]
    made = committer(client)
    changes, positions = [StateChange(0, b"u", b"v")], {Partition("events", 0): 1}
    with pytest.raises(Outage):
        made.commit(changes, positions, ASSIGNMENT)
    monkeypatch.setattr("stream.delivery._connect", lambda _: (successor, made._deliveries))
    made.recover()
    made.commit(changes, positions, ASSIGNMENT)
    assert successor.n_committed == 1
