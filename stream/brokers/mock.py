"""librdkafka's mock cluster: a broker inside this process, for a first look without Java.

It is librdkafka's own test double, reached through ctypes in the shared library that confluent-kafka ships.
"""

import ctypes
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import confluent_kafka

from stream.brokers.errors import BrokerError

LIMITS = (
    "embedded mock broker, for a first look only: nothing is kept after the end, nothing is compacted, transactions "
    "neither hide records nor keep offsets, 5 MiB a partition (older records are dropped silently), one worker"
)
PARTITION_BYTES = 5 * 1024 * 1024
"""What a partition holds before the oldest batches are dropped."""

_PRODUCER = 0
_ERROR_BYTES = 512
_Pointer = ctypes.c_void_p
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "rd_kafka_conf_new": (_Pointer, []),
    "rd_kafka_conf_destroy": (None, [_Pointer]),
    "rd_kafka_conf_set": (
        ctypes.c_int,
        [_Pointer, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t],
    ),
    "rd_kafka_new": (_Pointer, [ctypes.c_int, _Pointer, ctypes.c_char_p, ctypes.c_size_t]),
    "rd_kafka_destroy": (None, [_Pointer]),
    "rd_kafka_mock_cluster_new": (_Pointer, [_Pointer, ctypes.c_int]),
    "rd_kafka_mock_cluster_destroy": (None, [_Pointer]),
    "rd_kafka_mock_cluster_bootstraps": (ctypes.c_char_p, [_Pointer]),
    "rd_kafka_mock_topic_create": (ctypes.c_int, [_Pointer, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [_Pointer, ctypes.c_int32]),
}


class MockKafka:
    """One mock broker on a free port of loopback; it ends with this process.

    Topics cannot be created through Kafka's protocol on it: name them here, with their partition counts.
    """

    def __init__(self, partitions: Mapping[str, int] | None = None) -> None:
        """Start the broker.

        Args:
            partitions: Topics to create, with their partition counts.

        Raises:
            BrokerError: confluent-kafka ships no library with a mock cluster, or it does not start.
        """
        self._library = _load()
        self._client: int | None = _new_client(self._library)
        self._cluster: int | None = self._library.rd_kafka_mock_cluster_new(self._client, 1)
        if not self._cluster:
            self.close()
            raise BrokerError("librdkafka's mock cluster does not start (can a server listen on 127.0.0.1?)")
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        for topic, count in (partitions or {}).items():
            self.create_topic(topic, count)

    def create_topic(self, topic: str, partitions: int) -> None:
        """Create a topic.

        Raises:
            BrokerError: It exists, or the name or the count is not possible.
        """
        cluster = self._alive()
        # The library takes 0 partitions, and clients then wait for ever.
        if partitions < 1 or self._library.rd_kafka_mock_topic_create(cluster, topic.encode(), partitions, 1) != 0:
            raise BrokerError(f"the mock broker could not create topic {topic} with {partitions} partitions")

    @property
    def bootstrap(self) -> str:
        """Give the address for clients."""
        address: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._alive())
        return address.decode()

    def close(self) -> None:
        """Stop the broker; what it held is gone."""
        if self._cluster:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._cluster = None
        if self._client:
            self._library.rd_kafka_destroy(self._client)
            self._client = None

    def _alive(self) -> int:
        if not self._cluster:
            raise BrokerError("the mock broker is closed")
        return self._cluster

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _library_path() -> Path:
    """Find the library that the installed confluent-kafka itself uses (wheels carry it in a folder beside)."""
    package = Path(confluent_kafka.__file__).parent
    folders = (package.parent / "confluent_kafka.libs", package / ".dylibs")
    found = sorted(path for folder in folders for path in folder.glob("librdkafka*"))
    if not found:
        raise BrokerError(
            "this confluent-kafka ships no librdkafka of its own, so there is no mock broker; install Java"
        )
    return found[0]


def _load() -> ctypes.CDLL:
    path = _library_path()
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise BrokerError(f"{path.name} has no usable mock cluster ({error}); install Java") from error
    return library


def _new_client(library: ctypes.CDLL) -> int:
    """Make the client object that the mock cluster hangs on; its own log is off (level 0)."""
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    configuration = library.rd_kafka_conf_new()
    library.rd_kafka_conf_set(configuration, b"log_level", b"0", error, _ERROR_BYTES)
    client: int | None = library.rd_kafka_new(_PRODUCER, configuration, error, _ERROR_BYTES)
    if not client:
        library.rd_kafka_conf_destroy(configuration)
        raise BrokerError(f"librdkafka does not start: {error.value.decode(errors='replace')}")
    return client
