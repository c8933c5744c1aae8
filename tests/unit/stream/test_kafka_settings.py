"""How Kafka is reached: passwords that are never shown, properties of librdkafka, and the same TLS for both clients."""

import pickle
import ssl
import subprocess
import traceback
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from stream.delivery import producer_config
from stream.example_log import _consumer_config
from stream.faust_app import faust_app
from stream.kafka_properties import clean_properties
from stream.recovery import _reader_config
from stream.settings import Settings, SettingsError, load_settings

PASSWORD = "correct-horse"
SASL = {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_USERNAME": "shop", "BOOTSTRAP_SERVERS": "localhost:1"}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Give `told(NAME=value)`: the settings with these variables of Kafka."""
    monkeypatch.chdir(tmp_path)

    def read(**variables: str) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(f"MILLSTREAM_KAFKA__{name}", value)
        return load_settings()

    return read


@pytest.mark.parametrize("content", [PASSWORD, PASSWORD + "\n", PASSWORD + "\r\n"])
def test_a_password_comes_from_a_file(told: Any, tmp_path: Path, content: str) -> None:
    """Red where the line break stays."""
    (tmp_path / "password").write_bytes(content.encode())
    settings = told(**SASL, SASL_PASSWORD_FILE=str(tmp_path / "password"))
    assert settings.librdkafka()["sasl.password"] == PASSWORD
    assert faust_app(settings, "i").conf.broker_credentials.password == PASSWORD


@pytest.mark.parametrize("content", [b"", b"\n", b"one\ntwo\n", b"\xff\xfe", b"x" * 70_000])
def test_a_file_that_holds_no_password_is_told_without_its_content(told: Any, tmp_path: Path, content: bytes) -> None:
    """Red without any one of what is asked of it: text, not empty, one line, not too long."""
    (tmp_path / "password").write_bytes(content)
    with pytest.raises(SettingsError, match="sasl_password_file") as refused:
        told(**SASL, SASL_PASSWORD_FILE=str(tmp_path / "password"))
    assert "two" not in str(refused.value)


def test_a_missing_file_and_two_passwords_are_told(told: Any, tmp_path: Path) -> None:
    """Red where either is passed over: a worker would begin without a password, or with one of the two."""
    with pytest.raises(SettingsError, match=r"nowhere cannot be read: No such file"):
        told(**SASL, SASL_PASSWORD_FILE=str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match="one of the two"):
        told(SASL_PASSWORD=PASSWORD)


@pytest.mark.parametrize(
    "variables",
    [
        {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_PASSWORD": PASSWORD},
        {"SASL_PASSWORD": PASSWORD, "SASL_USERNAMES": "x"},
        {"SASL_PASSWORD": PASSWORD, "SESSION_TIMEOUT_SECONDS": "soon"},
        {"SASL_PASSWORD": PASSWORD, "SASL_PASSWORD_FILE": "/nowhere"},
        {"PROPERTIES__SASL_PASSWORD": PASSWORD},
        {"PROPERTIES": '{"sasl.jaas.config": "' + PASSWORD + '"}'},
        {"PROPERTIES": '["' + PASSWORD + '"]'},
        {"PROPERTIES": PASSWORD},
    ],
)
def test_no_error_shows_a_password(told: Any, variables: dict[str, str]) -> None:
    """Seen red: the first of them did, as a part of its whole group; so did the chain of every traceback."""
    with pytest.raises(SettingsError) as refused:
        told(**variables)
    assert "\n" not in str(refused.value)
    assert PASSWORD not in "".join(traceback.format_exception(refused.value))


def test_settings_do_not_show_passwords_and_reach_the_trainer(told: Any) -> None:
    settings = told(**SASL, SASL_PASSWORD=PASSWORD)
    assert PASSWORD not in f"{settings} {settings!r} {settings.kafka.model_dump()} {settings.model_dump_json()}"
    assert pickle.loads(pickle.dumps(settings)).kafka.password == PASSWORD  # as multiprocessing does, to its own child
    assert PASSWORD not in repr(faust_app(settings, "i").conf.broker_credentials)


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "GSSAPI", "oauthbearer"])
def test_mechanisms_that_are_not_supported_are_told(told: Any, mechanism: str) -> None:
    with pytest.raises(SettingsError, match=f"{mechanism} is not supported: use PLAIN, SCRAM"):
        told(SASL_MECHANISM=mechanism)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("acks", "protocol"),
        ("Acks", "protocol"),
        ("enable.idempotence", "protocol"),
        ("enable_idempotence", "protocol"),
        ("isolation.level", "protocol"),
        ("transactional.id", "protocol"),
        ("group.id", "protocol"),
        ("group.instance.id", "protocol"),
        ("enable.auto.commit", "protocol"),
        ("auto.offset.reset", "protocol"),
        ("partitioner", "protocol"),
        ("retries", "protocol"),
        ("message.send.max.retries", "protocol"),
        ("max.in.flight", "protocol"),
        ("metadata.recovery.strategy", "protocol"),
        ("client.id", "protocol"),
        ("log_level", "protocol"),
        ("error_cb", "protocol"),
        ("session.timeout.ms", "MILLSTREAM_KAFKA__SESSION_TIMEOUT_SECONDS"),
        ("sasl.mechanisms", "MILLSTREAM_KAFKA__SASL_MECHANISM"),
        ("sasl.password", "MILLSTREAM_KAFKA__SASL_PASSWORD_FILE"),
        ("metadata.broker.list", "MILLSTREAM_KAFKA__BOOTSTRAP_SERVERS"),
        ("enable.ssl.certificate.verification", "no counterpart"),
        ("ssl.keystore.location", "no counterpart"),
        ("sasl.oauthbearer.client.secret", "no counterpart"),
    ],
)
def test_what_the_protocol_needs_cannot_be_overridden(name: str, words: str) -> None:
    """Seen red with the name taken from the set, and with any one of the four refusals left out."""
    with pytest.raises(ValueError, match=words) as refused:
        clean_properties({name: "hidden-value"})
    assert "hidden-value" not in str(refused.value)


def test_other_properties_reach_every_client_and_stand_over_our_own_choices(told: Any) -> None:
    settings = told(
        BOOTSTRAP_SERVERS="localhost:1",
        PROPERTIES='{"linger.ms": 7, "fetch.wait.max.ms": 33, "client.rack": "a"}',
        PROPERTIES__SOCKET_KEEPALIVE_ENABLE="true",
    )
    for config in (producer_config(settings), _reader_config(settings), _consumer_config(settings)):
        assert config["socket.keepalive.enable"] == "true"
        assert config["client.rack"] == "a"
    assert producer_config(settings)["linger.ms"] == 7
    assert _reader_config(settings)["fetch.wait.max.ms"] == _consumer_config(settings)["fetch.wait.max.ms"] == 33
    Producer(producer_config(settings))
    Consumer(_reader_config(settings)).close()


def test_properties_come_from_the_file_and_the_events_client_follows_where_it_can(told: Any, tmp_path: Path) -> None:
    (tmp_path / "millstream.toml").write_text(
        '[kafka.properties]\n"metadata.max.age.ms" = 1234\n"connections.max.idle.ms" = 5678\n"check.crcs" = false\n'
    )
    conf = faust_app(told(BOOTSTRAP_SERVERS="localhost:1"), "i").conf
    assert conf.consumer_metadata_max_age_ms == 1234
    assert conf.consumer_connections_max_idle_ms == 5678
    assert conf.broker_check_crcs is False


def test_tls_is_the_same_for_both_clients(told: Any, tmp_path: Path, require: Any) -> None:
    require("openssl")
    for name in ("a", "b"):
        make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-subj", f"/CN={name}"]
        files = ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem")]
        subprocess.run([*make, *files, "-passout", "pass:" + PASSWORD], check=True, capture_output=True)
    (tmp_path / "password").write_text(PASSWORD)
    settings = told(
        BOOTSTRAP_SERVERS="localhost:1",
        SECURITY_PROTOCOL="SSL",
        SSL_CA_LOCATION=str(tmp_path / "a.pem"),
        SSL_CERTIFICATE_LOCATION=str(tmp_path / "b.pem"),
        SSL_KEY_LOCATION=str(tmp_path / "b.key"),
        SSL_KEY_PASSWORD_FILE=str(tmp_path / "password"),
        SSL_CIPHER_SUITES="ECDHE-RSA-AES256-GCM-SHA384",
        SSL_ENDPOINT_IDENTIFICATION_ALGORITHM="none",
    )
    Producer(producer_config(settings))  # librdkafka reads the files, and opens the key
    context = faust_app(settings, "i").conf.broker_credentials.context
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, False)
    assert [dict(part[0] for part in each["subject"])["commonName"] for each in context.get_ca_certs()] == ["a"]
    older = {each["name"] for each in context.get_ciphers() if each["protocol"] != "TLSv1.3"}
    assert older == {"ECDHE-RSA-AES256-GCM-SHA384"}


@pytest.mark.parametrize(
    "variables",
    [{"SSL_CA_LOCATION": "/nowhere.pem"}, {"SSL_CIPHER_SUITES": "none-such"}, {"SSL_CRL_LOCATION": "/nowhere.pem"}],
)
def test_tls_that_cannot_be_set_up_is_one_line(told: Any, variables: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="MILLSTREAM_KAFKA__SSL"):
        faust_app(told(BOOTSTRAP_SERVERS="localhost:1", SECURITY_PROTOCOL="SSL", **variables), "i")
