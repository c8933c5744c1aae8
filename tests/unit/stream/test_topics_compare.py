from dataclasses import replace

import pytest

from stream.settings import Settings, TopicSettings
from stream.topics.cluster import ClusterFacts, TopicFacts
from stream.topics.compare import compare, event_partitions, warnings
from stream.topics.expected import expected_topics, partition_counts

SETTINGS = Settings(app_id="shop")


def as_expected(settings: Settings = SETTINGS, n_brokers: int = 1, partitions: int | None = None) -> ClusterFacts:
    replicas = 3 if n_brokers >= 3 else 1
    topics = {
        topic.name: TopicFacts(topic.partitions, replicas, {**topic.config, "min.insync.replicas": "2"})
        for topic in expected_topics(settings, partitions)
    }
    return ClusterFacts("cluster", n_brokers, topics)


def changed(topic: str, partitions: int | None = None, replicas: int | None = None, **config: str) -> ClusterFacts:
    facts = as_expected(n_brokers=3)
    was = facts.topics[topic]
    now = TopicFacts(
        was.partitions if partitions is None else partitions,
        was.replicas if replicas is None else replicas,
        {**(was.config or {}), **{key.replace("_", "."): value for key, value in config.items()}},
    )
    return replace(facts, topics={**facts.topics, topic: now})


def without(*names: str) -> ClusterFacts:
    facts = as_expected()
    return replace(facts, topics={name: topic for name, topic in facts.topics.items() if name not in names})


def test_what_is_as_expected_is_silent() -> None:
    assert compare(SETTINGS, as_expected()) == []
    assert compare(SETTINGS, as_expected(n_brokers=3)) == []


def test_a_topic_that_nobody_may_read_the_configuration_of_is_not_blamed() -> None:
    facts = as_expected()
    hidden = {name: replace(topic, config=None) for name, topic in facts.topics.items()}
    assert compare(SETTINGS, replace(facts, topics=hidden)) == []


@pytest.mark.parametrize(
    "name", ["user-events", "recommendations", "rejected-events", "shop-training-examples", "shop-user-state"]
)
def test_a_missing_topic_stops_the_worker(name: str) -> None:
    (finding,) = compare(SETTINGS, without(name))
    assert (finding.topic, finding.stops) == (name, True)
    assert "`millstream topics create` makes it" in finding.text


def test_a_missing_optional_topic_does_not() -> None:
    (finding,) = compare(SETTINGS, without("item-catalog"))
    assert not finding.stops


def test_topics_follow_the_partitions_of_events_that_exist() -> None:
    assert compare(SETTINGS, as_expected(partitions=5)) == []
    assert event_partitions(SETTINGS, as_expected(partitions=5)) == 5
    assert event_partitions(SETTINGS, without("user-events")) is None


@pytest.mark.parametrize(("name", "partitions"), [("shop-user-state", 8), ("shop-training-examples", 2)])
def test_a_wrong_partition_count_that_breaks_promises_stops_the_worker(name: str, partitions: int) -> None:
    (finding,) = compare(SETTINGS, changed(name, partitions))
    assert finding.stops
    assert f"has {partitions} partitions" in finding.text
    assert "MILLSTREAM_" in finding.text


def test_other_partition_counts_are_told_only() -> None:
    (finding,) = compare(SETTINGS, changed("recommendations", 3))
    assert not finding.stops


@pytest.mark.parametrize(
    ("name", "policy", "stops"),
    [
        ("shop-user-state", "delete", True),
        ("shop-user-state", "compact,delete", True),
        ("shop-training-examples", "compact", True),
        ("user-events", "compact", True),
        ("recommendations", "delete", False),
    ],
)
def test_cleanup_that_loses_what_must_stay_stops_the_worker(name: str, policy: str, stops: bool) -> None:
    (finding,) = compare(SETTINGS, changed(name, cleanup_policy=policy))
    assert finding.stops is stops


def test_the_order_of_cleanup_policies_means_nothing() -> None:
    assert compare(SETTINGS, changed("recommendations", cleanup_policy="delete,compact")) == []


def test_other_differences_name_both_values() -> None:
    (finding,) = compare(SETTINGS, changed("shop-user-state", segment_ms="604800000"))
    assert (finding.text, finding.stops) == ("segment.ms is 604800000, 600000 expected", False)


def test_where_there_are_three_brokers_replicas_are_expected() -> None:
    (few, in_sync) = compare(SETTINGS, changed("user-events", replicas=1, min_insync_replicas="1"))
    assert few.text == "has 1 replicas, 3 expected"
    assert in_sync.text == "min.insync.replicas is 1, 2 expected"
    assert warnings(as_expected(n_brokers=3)) == []
    assert warnings(as_expected(n_brokers=2))[0].startswith("2 brokers: one replica")


def test_several_events_topics_must_have_one_partition_count() -> None:
    settings = Settings(app_id="shop", topics=TopicSettings(events=["web", "app"]))
    facts = as_expected(settings)
    assert compare(settings, facts) == []
    odd = replace(facts, topics={**facts.topics, "app": replace(facts.topics["app"], partitions=4)})
    stopping = [finding for finding in compare(settings, odd) if finding.stops]
    assert any("(web: 16, app: 4)" in finding.text for finding in stopping)


def test_a_hidden_topic_needs_a_permission_not_a_creation() -> None:
    facts = replace(without("recommendations"), denied=["recommendations"])
    (finding,) = compare(SETTINGS, facts)
    assert finding.stops
    assert "may not WRITE topic recommendations" in finding.text


def test_what_stops_comes_first() -> None:
    findings = compare(SETTINGS, without("item-catalog", "shop-user-state", "user-profiles"))
    assert [finding.stops for finding in findings] == [True, False, False]


def test_the_mock_is_told_every_topic() -> None:
    counts = partition_counts(SETTINGS)
    assert counts["user-events"] == counts["shop-user-state"] == 16
    assert counts["shop-training-examples"] == 1
