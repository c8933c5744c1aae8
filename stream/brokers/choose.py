"""Which Kafka a command works with: the one in the settings, a local Apache Kafka, or the embedded mock."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from stream.brokers.apache import ApacheKafka
from stream.brokers.errors import BrokerError
from stream.brokers.mock import LIMITS, MockKafka

log = logging.getLogger(__name__)


class BrokerChoice(StrEnum):
    """What may be asked for with `--broker`."""

    AUTO = "auto"
    APACHE = "apache"
    MOCK = "mock"


class Broker(Protocol):
    """A Kafka to work with, however it came to be."""

    @property
    def bootstrap(self) -> str:
        """The address for clients."""

    def close(self) -> None:
        """Stop it, where this process started it."""


@dataclass(frozen=True)
class GivenKafka:
    """A Kafka of the user's: this process neither starts nor stops it."""

    bootstrap: str

    def close(self) -> None:
        """Leave it alone."""


def choose_broker(
    choice: BrokerChoice,
    address: str | None,
    partitions: Mapping[str, int],
    say: Callable[[str], None],
    data_dir: Path | None = None,
) -> Broker:
    """Start, or find, the Kafka to work with.

    Args:
        choice: `auto` takes the address, else Apache Kafka, else the mock; the others insist.
        address: Bootstrap servers from the settings, where there are any.
        partitions: Topics with their partition counts, which the mock must be told when it starts.
        say: Takes each line that the user should see: which Kafka it is, and its limits.
        data_dir: Where a local Apache Kafka keeps its data; temporary by default.

    Raises:
        BrokerError: What was insisted on cannot be had, or nothing can.
    """
    if choice is BrokerChoice.AUTO and address:
        say(f"Kafka at {address}")
        return GivenKafka(address)
    if choice is not BrokerChoice.MOCK:
        try:
            return _apache(data_dir, say)
        except BrokerError as error:
            if choice is BrokerChoice.APACHE:
                raise
            say(f"no Apache Kafka on this machine: {error}")
    mock = MockKafka(partitions)
    say(LIMITS)
    return mock


def _apache(data_dir: Path | None, say: Callable[[str], None]) -> ApacheKafka:
    kafka = ApacheKafka(data_dir)
    try:
        kafka.start()
    except BaseException:
        kafka.close()
        raise
    say(f"Apache Kafka at {kafka.bootstrap}" + (f", data in {data_dir}" if data_dir else ", data temporary"))
    return kafka
