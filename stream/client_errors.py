"""What the Kafka client's errors mean: another attempt, an outage, a group that moved on, another producer's turn."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")


def is_passing(error: KafkaError) -> bool:
    """Say whether an error is one of a broker that is away or has just come back, and of nothing else."""
    return error.retriable() or error.code() in _PASSING


_PASSING = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._MSG_TIMED_OUT,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.CONCURRENT_TRANSACTIONS,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    # What a broker says that has lost, or given up, what this producer had begun.
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
    KafkaError.UNKNOWN_PRODUCER_ID,
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
    KafkaError.INVALID_TXN_STATE,
}
FENCED = {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}
"""Another producer has the transactional id now."""


@contextmanager
def client_errors() -> Iterator[None]:
    """Raise as a `KafkaException` what the client raises in between two reports.

    A fatal error becomes an exception while the client calls back (confluent-kafka 2.16, `error_cb`). Where a report of
    a delivery is called right after it, Python finds that one returning with an exception set, and tells of that.
    """
    try:
        yield
    except SystemError as error:
        if isinstance(error.__cause__, KafkaException):
            raise error.__cause__ from None
        raise


GROUP_MOVED_ON = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    # A static member that lost its session and has joined again has a new member id; under the old one it is told
    # this, as a twin's victim would be. A real twin has fenced the transactional id as well.
    KafkaError.FENCED_INSTANCE_ID,
}


def retried(call: Callable[..., _Result], *arguments: object, patience_seconds: float) -> _Result:
    """Call until it succeeds, while the client says that another attempt may; see `KafkaError.retriable`."""
    deadline = monotonic() + patience_seconds
    while True:
        try:
            return call(*arguments)
        except KafkaException as error:
            if not error.args[0].retriable() or monotonic() > deadline:
                raise
            logger.warning("retry call=%s error=%s", getattr(call, "__name__", call), error.args[0])
