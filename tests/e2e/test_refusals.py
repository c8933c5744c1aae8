"""A start that cannot work: one line that says why, and an exit code that is not 0."""

import socket

import pytest

from tests.e2e.workers import eventually, only_line


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("KAFKA__BOOTSTRAP_SERVER", "x:1", "MILLSTREAM_KAFKA__BOOTSTRAP_SERVERS"),
        ("MODEL__HIDDEN", "-1", "hidden"),
        ("WEB__PORT", "many", "MILLSTREAM_WEB__PORT"),
        ("START", "yesterday", "MILLSTREAM_START"),
    ],
)
def test_a_wrong_setting_is_told_before_anything_connects(application, setting, value, words):
    worker = application.start(**{setting: value})
    assert worker.wait() == 2
    assert words in only_line(worker.output)


@pytest.mark.parametrize(
    ("name", "value"), [("FETCH_MAX_BYTES", "1"), ("NO_SUCH_THING", "1"), ("SOCKET_TIMEOUT_MS", "soon")]
)
def test_properties_that_librdkafka_does_not_take_are_told(application, name, value):
    worker = application.start(**{f"KAFKA__PROPERTIES__{name}": value})
    assert worker.wait() == 2
    assert name.lower().replace("_", ".") in only_line(worker.output)


def test_an_unreachable_broker_is_told(application):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    code, output = application.run_command("worker", KAFKA__BOOTSTRAP_SERVERS=address)
    assert code == 69
    assert f"no Kafka answers at {address}" in only_line(output)


def test_a_missing_topic_is_told(application, kafka):
    topic = application.settings.training_examples_topic
    kafka.admin.delete_topics([topic])[topic].result(30)
    eventually(lambda: topic not in kafka.admin.list_topics(timeout=20).topics, "the end of the topic, in the listing")
    worker = application.start()
    assert worker.wait() != 0
    line = only_line(worker.output)
    assert topic in line
    assert "millstream topics create" in line


@pytest.mark.parametrize(("topic", "n_partitions"), [("user_state_topic", 3), ("training_examples_topic", 2)])
def test_a_wrong_number_of_partitions_is_told(application, topics, topic, n_partitions):
    name = f"{application.prefix}-another"
    topics({name: n_partitions}, config={"cleanup.policy": "compact" if topic == "user_state_topic" else "delete"})
    variable = {"user_state_topic": "TOPICS__USER_STATE", "training_examples_topic": "TOPICS__TRAINING_EXAMPLES"}
    worker = application.start(**{variable[topic]: name})
    assert worker.wait() != 0
    line = only_line(worker.output)
    assert name in line
    assert f"has {n_partitions} partitions" in line


def test_a_data_folder_in_use_is_told(application):
    """Red without the lock: two processes would be one member, and fence each other in turn."""
    first = application.start().until_ready()
    second = application.start()
    assert second.wait() != 0
    line = only_line(second.output)
    assert "is in use by another worker" in line
    assert str(first.pid) in line
    assert first.stop() == 0


def test_a_taken_web_port_is_told(application):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        worker = application.start(WEB__PORT=str(port))
        assert worker.wait() != 0
    assert f"port {port} on 127.0.0.1 is taken" in only_line(worker.output)
