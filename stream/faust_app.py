"""Faust as this project sets it up: by its public settings alone."""

import ssl
from typing import Any

import faust

from stream.settings import KafkaSettings, Settings

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
    )


def _credentials(kafka: KafkaSettings) -> Any:
    if kafka.security_protocol == "PLAINTEXT":
        return None
    context = _ssl_context(kafka) if kafka.security_protocol.endswith("SSL") else None
    if kafka.security_protocol == "SSL":
        return faust.SSLCredentials(context=context)
    password = kafka.sasl_password.get_secret_value() if kafka.sasl_password else None
    return faust.SASLCredentials(
        username=kafka.sasl_username, password=password, mechanism=kafka.sasl_mechanism, ssl_context=context
    )


def _ssl_context(kafka: KafkaSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if kafka.ssl_ca_location is None else str(kafka.ssl_ca_location))
    if kafka.ssl_certificate_location is not None:
        password = kafka.ssl_key_password.get_secret_value() if kafka.ssl_key_password else None
        context.load_cert_chain(
            str(kafka.ssl_certificate_location),
            None if kafka.ssl_key_location is None else str(kafka.ssl_key_location),
            password,
        )
    return context
