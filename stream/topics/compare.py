"""What differs between the topics as they are and as they should be. Pure: facts in, findings out."""

from collections.abc import Sequence
from dataclasses import dataclass

from stream.settings import Settings
from stream.topics.cluster import MIN_INSYNC, REPLICAS, ClusterFacts, TopicFacts
from stream.topics.expected import ExpectedTopic, expected_topics, policies
from stream.topics.permissions import hidden

CREATE_HINT = "`millstream topics create` makes it"


@dataclass(frozen=True)
class Finding:
    """Something that is not as expected.

    Attributes:
        topic: Its name.
        text: What differs, and the way out.
        stops: The worker cannot start with it.
    """

    topic: str
    text: str
    stops: bool = False


def event_partitions(settings: Settings, facts: ClusterFacts) -> int | None:
    """Give the number of partitions that the existing events topics have; None where there are none yet."""
    counts = [facts.topics[name].partitions for name in settings.topics.events if name in facts.topics]
    return counts[0] if counts else None


def compare(settings: Settings, facts: ClusterFacts) -> list[Finding]:
    """List every difference, those that stop the worker first."""
    expected = expected_topics(settings, event_partitions(settings, facts))
    findings = [finding for topic in expected for finding in _compare_topic(topic, facts)]
    findings += _co_partitioning(settings, facts)
    return sorted(findings, key=lambda finding: not finding.stops)


def _compare_topic(expected: ExpectedTopic, facts: ClusterFacts) -> list[Finding]:
    needed = expected.duty != "optional"
    if expected.name in facts.denied:
        return [Finding(expected.name, hidden(expected), needed)]
    actual = facts.topics.get(expected.name)
    if actual is None:
        return [Finding(expected.name, f"does not exist; {CREATE_HINT}", needed)]
    return [*_partitions(expected, actual), *_safety(expected, actual, facts.n_brokers), *_config(expected, actual)]


def _partitions(expected: ExpectedTopic, actual: TopicFacts) -> list[Finding]:
    if actual.partitions == expected.partitions:
        return []
    has = f"has {actual.partitions} partitions, {expected.partitions} expected"
    if expected.duty == "state":
        way_out = "as many as the events; a new MILLSTREAM_APP_ID starts with a state of its own"
        return [Finding(expected.name, f"{has}: {way_out}", stops=True)]
    if expected.duty == "examples":
        way_out = "its order is the learning order; name another with MILLSTREAM_TOPICS__TRAINING_EXAMPLES"
        return [Finding(expected.name, f"{has}: {way_out}", stops=True)]
    return [Finding(expected.name, has)]


def _safety(expected: ExpectedTopic, actual: TopicFacts, n_brokers: int) -> list[Finding]:
    if n_brokers < REPLICAS:
        return []  # said once for the whole cluster, see `warnings`
    findings = []
    if actual.replicas < REPLICAS:
        findings.append(Finding(expected.name, f"has {actual.replicas} replicas, {REPLICAS} expected"))
    in_sync = (actual.config or {}).get("min.insync.replicas")
    if in_sync is not None and int(in_sync) < MIN_INSYNC:
        findings.append(Finding(expected.name, f"min.insync.replicas is {in_sync}, {MIN_INSYNC} expected"))
    return findings


def _config(expected: ExpectedTopic, actual: TopicFacts) -> list[Finding]:
    if actual.config is None:
        return []
    findings = []
    for key, value in expected.config.items():
        is_value = actual.config.get(key, "")
        if key == "cleanup.policy":
            if policies(is_value) != expected.cleanup:
                findings.append(_cleanup(expected, is_value))
        elif is_value != value:
            findings.append(Finding(expected.name, f"{key} is {is_value}, {value} expected"))
    return findings


def _cleanup(expected: ExpectedTopic, is_value: str) -> Finding:
    text = f"cleanup.policy is {is_value}, {expected.config['cleanup.policy']} expected"
    if expected.duty == "state" and "delete" in policies(is_value):
        return Finding(expected.name, f"{text}: users' states would be deleted with age", stops=True)
    if expected.duty in ("examples", "events") and "compact" in policies(is_value):
        return Finding(expected.name, f"{text}: compaction would drop records of this log", stops=True)
    return Finding(expected.name, text)


def _co_partitioning(settings: Settings, facts: ClusterFacts) -> list[Finding]:
    """Several topics of events share the users, so a user's home must be the same partition in each."""
    present = [(name, facts.topics[name].partitions) for name in settings.topics.events if name in facts.topics]
    if len({count for _, count in present}) <= 1:
        return []
    shown = ", ".join(f"{name}: {count}" for name, count in present)
    text = f"the events topics differ in partitions ({shown}); a user's home needs the same number in each"
    return [Finding(present[0][0], text, stops=True)]


def warnings(facts: ClusterFacts) -> Sequence[str]:
    """Say what is true of the whole cluster, and an operator should know."""
    if facts.is_mock or facts.n_brokers >= REPLICAS:
        return []
    count = f"{facts.n_brokers} broker" + ("" if facts.n_brokers == 1 else "s")
    return [f"{count}: one replica of each topic, so a lost disk is lost data ({REPLICAS} brokers keep {REPLICAS})"]
