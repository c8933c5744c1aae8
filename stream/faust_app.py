"""Faust as this project sets it up: by its public settings alone."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faust

from stream.kafka_properties import Property
from stream.settings import KafkaSettings, Settings, SettingsError

QUEUED_CHUNKS = 64
"""Chunks that wait in the agent's queue: this bounds the memory of a backlog."""
FETCH_BYTES = 65_536
"""Of one partition at a time: a backlog comes in thin slices of all partitions, so that it can be merged by time."""


def faust_app(settings: Settings, instance_id: str) -> faust.App:
    """Return the application: group membership and agents; no tables, no commits, no topics made, no web pages."""
    kafka = settings.kafka
    servers = str(settings.librdkafka()["bootstrap.servers"])
    session = kafka.session_timeout_seconds
    return faust.App(
        settings.app_id,
        broker=[f"kafka://{server.strip()}" for server in servers.split(",")],
        broker_credentials=_credentials(kafka),
        broker_client_id=settings.web.advertised_url or f"{settings.app_id}-{instance_id}",  # see stream.owners
        broker_session_timeout=session,
        broker_request_timeout=max(90.0, session * 1.5),
        broker_heartbeat_interval=min(3.0, session / 5),
        consumer_max_fetch_size=FETCH_BYTES,  # a record that is larger comes all the same
        consumer_group_instance_id=instance_id,
        consumer_auto_offset_reset="earliest",  # never used: every partition is sought
        store="memory://",
        datadir=settings.data_dir / "faust",
        stream_buffer_maxsize=QUEUED_CHUNKS,
        stream_wait_empty=False,  # no acks are kept; a stop drains in the scorer
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        **_client_options(kafka.properties),
    )


def _client_options(properties: Mapping[str, Property]) -> dict[str, Any]:
    """Hand on those settings of librdkafka that Faust's client knows, too."""
    options: dict[str, Any] = {
        option: int(properties[name]) for name, option in _MILLISECONDS.items() if name in properties
    }
    if "check.crcs" in properties:
        options["broker_check_crcs"] = str(properties["check.crcs"]).lower() == "true"
    return options


_MILLISECONDS = {
    "metadata.max.age.ms": "consumer_metadata_max_age_ms",
    "connections.max.idle.ms": "consumer_connections_max_idle_ms",
}


def _credentials(kafka: KafkaSettings) -> Any:
    if kafka.security_protocol == "PLAINTEXT":
        return None
    context = _ssl_context(kafka) if kafka.security_protocol.endswith("SSL") else None
    if kafka.security_protocol == "SSL":
        return faust.SSLCredentials(context=context)
    return faust.SASLCredentials(
        username=kafka.sasl_username, password=kafka.password, mechanism=kafka.sasl_mechanism, ssl_context=context
    )


def _ssl_context(kafka: KafkaSettings) -> ssl.SSLContext:
    """Return what librdkafka is told, for Python's TLS.

    Raises:
        SettingsError: A file cannot be used.
    """
    try:
        context = _trusting(kafka.ssl_ca_location)
        if kafka.ssl_crl_location is not None:
            context.load_verify_locations(kafka.ssl_crl_location)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        if kafka.ssl_certificate_location is not None:
            # A function, even where there is no password: with None, OpenSSL would ask the terminal.
            context.load_cert_chain(
                kafka.ssl_certificate_location, kafka.ssl_key_location, lambda: kafka.key_password or ""
            )
        if kafka.ssl_cipher_suites is not None:
            context.set_ciphers(kafka.ssl_cipher_suites)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise SettingsError(f"TLS cannot be set up with MILLSTREAM_KAFKA__SSL_...: {error}") from error
    context.check_hostname = kafka.ssl_endpoint_identification_algorithm == "https"
    return context


def _trusting(authorities: Path | None) -> ssl.SSLContext:
    if authorities is not None and authorities.is_dir():
        return ssl.create_default_context(capath=authorities)
    return ssl.create_default_context(cafile=authorities)
