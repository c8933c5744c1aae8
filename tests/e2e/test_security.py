"""The installed worker on a Kafka that demands TLS, a password and permissions: just those that the manual names."""

import re
import shlex
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from stream.settings import Settings
from tests.e2e.checker import check
from tests.e2e.test_watchdog import IMPATIENT
from tests.e2e.visits import events
from tests.e2e.workers import Application, only_line
from tests.secured import SecuredKafka, make_authority

PASSWORD = "correct-horse-battery-staple"
TOKEN = "a-token-that-nobody-guesses"
MANUAL = Path(__file__).parents[2] / "docs" / "operations.md"


def documented_acls():
    """The lines `acl --operation ... --topic ...` of the manual."""
    return re.findall(r"^acl (--.+)$", MANUAL.read_text(), re.MULTILINE)


@dataclass
class SecuredApplication(Application):
    """An application whose topics of events and answers are not below its prefix, which is allowed as a whole."""

    @property
    def topics(self):
        return {
            "events": [f"events-of-{self.prefix}"],
            "recommendations": f"answers-of-{self.prefix}",
            "rejected_events": f"rejects-of-{self.prefix}",
            "partitions": self.partitions,
        }

    @property
    def settings(self):
        return Settings(
            app_id=self.prefix,
            data_dir=self.data_dir(),
            kafka={"bootstrap_servers": self.bootstrap},
            topics=self.topics,
        )

    def acls(self):
        """What the manual says, for these names."""
        names = {
            "$APP": self.prefix,
            "user-events": self.topics["events"][0],
            "recommendations": self.topics["recommendations"],
            "rejected-events": self.topics["rejected_events"],
        }
        for line in documented_acls():
            for name, ours in names.items():
                line = line.replace(name, ours)
            yield shlex.split(line)


@pytest.fixture(scope="module")
def secured(needs_kafka, require, tmp_path_factory):
    require("openssl")
    with SecuredKafka(tmp_path_factory.mktemp("secured")) as kafka:
        yield kafka


@pytest.fixture
def application(secured, fresh_prefix, tmp_path, nursery):
    secured.add_user(fresh_prefix, PASSWORD)
    password_file = tmp_path / "password"
    password_file.write_text(PASSWORD + "\n")
    application = SecuredApplication(secured.bootstrap, fresh_prefix, tmp_path, nursery)
    application.more = {
        "KAFKA__BOOTSTRAP_SERVERS": secured.secured,
        "KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA__SASL_USERNAME": fresh_prefix,
        "KAFKA__SASL_PASSWORD_FILE": str(password_file),
        "KAFKA__SSL_CA_LOCATION": str(secured.authority),
        "TOPICS__EVENTS": application.topics["events"][0],
        "TOPICS__RECOMMENDATIONS": application.topics["recommendations"],
        "TOPICS__REJECTED_EVENTS": application.topics["rejected_events"],
    }
    yield application.create_topics()
    application.close()


def test_the_documented_permissions_suffice_and_no_password_is_ever_said(application, secured):
    """librdkafka is asked to tell its settings, and all that the worker says and keeps is searched."""
    secured.allow(application.prefix, application.acls())
    token = {"WEB__TOKEN": TOKEN}
    loud = token | {"LOG_LEVEL": "DEBUG", "KAFKA__PROPERTIES__DEBUG": "conf,security"}
    worker = application.start_command(**loud).until_ready()
    application.produce(events(300))
    application.until_done()
    application.until_learned()
    assert worker.get("/recommendations/u1")[0] == 401
    assert worker.get("/metrics")[0] == 401
    assert worker.stop() == 0
    check(application)

    said = [worker.output]
    for command in (["config"], ["config", "--json"], ["topics", "describe"]):
        code, output = application.run_command(*command, **token)
        assert code == 0, output
        said.append(output)
    assert "sasl.password" in worker.output, "librdkafka was asked to tell its settings"
    assert not [text for text in said if PASSWORD in text or TOKEN in text]
    kept = [path for path in application.data_dir().rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if PASSWORD.encode() in path.read_bytes() or TOKEN.encode() in path.read_bytes()]


@pytest.mark.parametrize("missing", documented_acls())
def test_each_permission_that_is_missing_is_one_line(application, secured, missing):
    """Without the question before the start, a worker would live, never be ready, and answer nothing.

    Seen red while a topic that may not be described was told without the operations that are missing.
    """
    number = documented_acls().index(missing)
    allowed = list(application.acls())
    left_out = allowed.pop(number)
    secured.allow(application.prefix, allowed)
    worker = application.start()
    assert worker.wait() == 2
    line = only_line(worker.output)
    kind, name = next((part, after) for part, after in pairwise(left_out) if part in KINDS)
    assert f"{KINDS[kind]} {name}" in line
    for operation in [after for part, after in pairwise(left_out) if part == "--operation"]:
        assert operation.upper() in line
    assert "kafka-acls" in line


KINDS = {"--topic": "topic", "--group": "group", "--transactional-id": "transactional id"}


IN_CI = 1
"""Of the permissions that are withdrawn in the middle: that of the answers. All of them with `pytest -m long`."""


@pytest.mark.parametrize(
    "number", [n if n == IN_CI else pytest.param(n, marks=pytest.mark.long) for n in range(len(documented_acls()))]
)
def test_a_permission_withdrawn_in_the_middle_ends_the_worker_and_loses_nothing(application, secured, number):
    """Red where a refusal is taken for an outage, which is waited for: the worker would live and answer nothing."""
    acls = list(application.acls())
    secured.allow(application.prefix, acls)
    worker = application.start(**IMPATIENT).until_ready()
    application.produce(events(100))
    application.until_done()
    secured.withdraw(application.prefix, [acls[number]])
    application.produce([*events(100, seed=2), {"user_id": "u1"}])  # one that is rejected too
    assert worker.wait() not in (0, -9)
    assert " CRITICAL " in worker.output
    secured.allow(application.prefix, acls)
    worker = application.start().until_ready()
    application.until_done()
    application.until_learned()
    assert worker.stop() == 0
    check(application)


def test_a_wrong_password_is_one_line_without_it(application, secured):
    secured.allow(application.prefix, application.acls())
    del application.more["KAFKA__SASL_PASSWORD_FILE"]
    code, output = application.run_command("worker", KAFKA__SASL_PASSWORD="wrong-horse")
    assert code == 69
    line = only_line(output)
    assert "invalid credentials" in line
    assert "check MILLSTREAM_KAFKA__SASL_USERNAME, __SASL_PASSWORD" in line
    assert "wrong-horse" not in output


def test_an_unknown_authority_is_one_line(application, secured, tmp_path):
    secured.allow(application.prefix, application.acls())
    stranger, _ = make_authority(tmp_path, "stranger")
    code, output = application.run_command("worker", KAFKA__SSL_CA_LOCATION=str(stranger))
    assert code == 69
    line = only_line(output)
    assert "certificate verify failed" in line
    assert "MILLSTREAM_KAFKA__SSL_CA_LOCATION" in line
