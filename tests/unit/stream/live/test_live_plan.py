"""What the demo is made of, decided before anything is started."""

from pathlib import Path

import pytest

from stream.brokers.choose import BrokerChoice
from stream.errors import StartupError
from stream.live.plan import DemoOptions, environment, overrides, prefix, wish
from stream.settings import KafkaSettings, Settings, load_settings, variable_names


def options(broker: str = "auto", data_dir: Path | None = None) -> DemoOptions:
    return DemoOptions(broker, 200.0, None, False, data_dir)


def test_auto_takes_the_kafka_of_the_settings() -> None:
    settings = Settings(kafka=KafkaSettings(bootstrap_servers="kafka:9092"))
    assert wish(options(), settings).address == "kafka:9092"
    assert wish(options(), settings).is_given
    assert not wish(options(), Settings()).is_given


def test_insisting_on_a_broker_leaves_that_of_the_settings_alone() -> None:
    settings = Settings(kafka=KafkaSettings(bootstrap_servers="kafka:9092"))
    assert wish(options("kafka"), settings).choice is BrokerChoice.APACHE
    assert wish(options("mock"), settings).choice is BrokerChoice.MOCK
    assert not wish(options("kafka"), settings).is_given
    assert wish(options("[::1]:9092"), settings).address == "[::1]:9092"


@pytest.mark.parametrize("broker", ["redpanda", "localhost", "localhost:", ":9092", "localhost:kafka"])
def test_what_is_neither_choice_nor_address(broker: str) -> None:
    with pytest.raises(StartupError, match="expected auto, kafka, mock or host:port, got"):
        wish(options(broker), Settings())


def test_the_mock_keeps_nothing(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="--data-dir"):
        wish(options("mock", tmp_path), Settings())


def test_somebodys_own_topics_are_left_alone() -> None:
    assert prefix(is_given=False, is_kept=False) == ""
    assert prefix(is_given=True, is_kept=True) == "millstream-demo-"
    assert prefix(is_given=True, is_kept=False) != prefix(is_given=True, is_kept=False)
    values = overrides("kafka:9092", "millstream-demo-", Path("x"), 1, True, {})
    settings = Settings(**values)
    names = settings.topics
    topics = [
        *names.events,
        *(names.recommendations, names.rejected_events, names.item_catalog, names.user_profiles),
        *(names.erasure_requests, settings.training_examples_topic, settings.model_updates_topic),
        settings.user_state_topic,
    ]
    assert all(topic.startswith("millstream-demo-") for topic in topics)


def test_its_own_kafka_has_the_names_of_the_documentation() -> None:
    settings = Settings(**overrides("127.0.0.1:1", "", Path("x"), 1, False, {}))
    assert settings.topics.events == ["user-events"]
    assert settings.topics.recommendations == "recommendations"
    assert settings.kafka.security_protocol == "PLAINTEXT"
    assert settings.app_id == "millstream-demo"


def test_the_children_get_what_this_process_works_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = overrides("127.0.0.1:1", "p-", tmp_path, 1234, False, {})
    variables = environment(values)
    assert set(variables) <= set(variable_names())
    here = load_settings(values)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == here


def test_what_the_environment_says_of_tuned_settings_stands() -> None:
    values = overrides("127.0.0.1:1", "", Path("x"), 1, False, {"millstream_measure__frozen_after": "7"})
    assert "frozen_after" not in values["measure"]
    assert values["measure"]["sample"] == 1.0
    assert "MILLSTREAM_MEASURE__FROZEN_AFTER" not in environment(values)
