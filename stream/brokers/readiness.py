"""Whether a broker serves yet."""

import socket

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from stream.brokers.ports import LOOPBACK


class Readiness:
    """Asks one starting broker, as a client would."""

    def __init__(self, port: int, cluster_id: str) -> None:
        self._port, self._cluster_id = port, cluster_id
        self._admin: AdminClient | None = None

    def ask(self) -> bool:
        """Say whether the broker is registered and unfenced: until then, its metadata name no broker.

        A foreign broker that was quicker to take the port has another cluster id, and does not count.
        """
        if self._admin is None:
            if not self._accepts_connections():
                return False
            # Made only now: a client that was refused once would wait out its back-off.
            self._admin = AdminClient({"bootstrap.servers": f"{LOOPBACK}:{self._port}", "log_level": 0})
        try:
            metadata = self._admin.list_topics(timeout=1)
        except KafkaException:
            return False
        return bool(metadata.brokers) and metadata.cluster_id == self._cluster_id

    def _accepts_connections(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self._port), timeout=1):
                return True
        except OSError:
            return False
