"""Settings of librdkafka that have no name among ours: which may be given, and which may not."""

from collections.abc import Mapping
from typing import Final, TypeAlias

Property: TypeAlias = str | int | float | bool

_OURS: Final = {
    "bootstrap.servers": "bootstrap_servers",
    "metadata.broker.list": "bootstrap_servers",
    "security.protocol": "security_protocol",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.mechanisms": "sasl_mechanism",
    "sasl.username": "sasl_username",
    "sasl.password": "sasl_password_file",
    "ssl.ca.location": "ssl_ca_location",
    "ssl.certificate.location": "ssl_certificate_location",
    "ssl.key.location": "ssl_key_location",
    "ssl.key.password": "ssl_key_password_file",
    "ssl.crl.location": "ssl_crl_location",
    "ssl.cipher.suites": "ssl_cipher_suites",
    "ssl.endpoint.identification.algorithm": "ssl_endpoint_identification_algorithm",
    "session.timeout.ms": "session_timeout_seconds",
    "transaction.timeout.ms": "transaction_timeout_seconds",
    "message.timeout.ms": "delivery_timeout_seconds",
    "delivery.timeout.ms": "delivery_timeout_seconds",
}
"""Properties that are settings of their own."""

_PROTOCOL: Final = frozenset(
    {
        "acks",
        "request.required.acks",
        "enable.idempotence",
        "enable.gapless.guarantee",
        "transactional.id",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "message.send.max.retries",
        "retries",
        "partitioner",
        "message.max.bytes",
        "delivery.report.only.error",
        "isolation.level",
        "enable.auto.commit",
        "auto.commit.enable",
        "auto.commit.interval.ms",
        "enable.auto.offset.store",
        "auto.offset.reset",
        "enable.partition.eof",
        "offset.store.method",
        "group.id",
        "group.instance.id",
        "group.protocol",
        "group.protocol.type",
        "group.remote.assignor",
        "partition.assignment.strategy",
        "heartbeat.interval.ms",
        "metadata.recovery.strategy",
        "allow.auto.create.topics",
        "client.id",
        "log_level",
        "log.queue",
        "produce.offset.report",
        "test.mock.num.brokers",
    }
)
"""Properties on which `docs/protocol.md` relies, or on which this program's own reading of its clients does."""

_SECURITY: Final = ("ssl.", "sasl.", "https.", "enable.ssl.", "enable.sasl.")


def clean_properties(properties: Mapping[str, Property]) -> dict[str, Property]:
    """Return the properties by librdkafka's names; underscores stand for dots, as variables need it.

    Raises:
        ValueError: One may not be given; its value is not shown.

    >>> clean_properties({"socket_keepalive_enable": True, "linger.ms": 5})
    {'socket.keepalive.enable': True, 'linger.ms': 5}
    >>> clean_properties({"acks": "1"})
    Traceback (most recent call last):
        ...
    ValueError: acks: the protocol of this program needs its own value
    """
    cleaned = {name.strip().lower().replace("_", "."): value for name, value in properties.items()}
    for name in cleaned:
        if (why := _refusal(name)) is not None:
            raise ValueError(f"{name}: {why}")
    return cleaned


def _refusal(name: str) -> str | None:
    if (own := _OURS.get(name)) is not None:
        return f"has a setting of its own, MILLSTREAM_KAFKA__{own.upper()}"
    if name in _PROTOCOL or name.replace(".", "_") in _PROTOCOL or name.endswith(".cb"):
        return "the protocol of this program needs its own value"
    if name.startswith(_SECURITY):
        return "Faust's client, which reads the events, has no counterpart; security is set by MILLSTREAM_KAFKA__ alone"
    return None
