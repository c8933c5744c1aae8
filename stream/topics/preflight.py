"""The check before a start: a worker without its topics would live, log one warning, and never answer."""

from dataclasses import dataclass

from stream.errors import StartupError
from stream.identity import Identity
from stream.settings import Settings
from stream.topics.cluster import Cluster, ClusterFacts
from stream.topics.compare import compare, event_partitions, warnings
from stream.topics.expected import ExpectedTopic, expected_topics
from stream.topics.permissions import groups_of, refusals


@dataclass(frozen=True)
class Preflight:
    """What the worker learns from the check.

    Attributes:
        identity: Ids of the cluster and of the topics whose offsets are part of what is kept: those of events, of
            examples and of states. Another topic may be made anew, and nothing is lost.
        event_partitions: Partitions of each events topic.
        optional: Names of the optional topics that exist.
        warnings: What differs and does not stop the worker, a line each.
        is_mock: The Kafka is the embedded mock broker.
    """

    identity: Identity
    event_partitions: int
    optional: frozenset[str]
    warnings: tuple[str, ...]
    is_mock: bool


def preflight(settings: Settings) -> Preflight:
    """Check every topic, partition count and permission, with the worker's own credentials.

    Transactional ids cannot be asked about without fencing whoever uses them: their own users tell, as they start.

    Raises:
        StartupError: The worker cannot work with these topics, or may not; the line names the way out.
        SettingsError: No Kafka is named.
    """
    cluster = Cluster(settings)
    facts = ask(cluster, settings)
    findings = compare(settings, facts)
    stopping = [f"topic {finding.topic} {finding.text}" for finding in findings if finding.stops]
    stopping = stopping or refused(cluster, settings, facts)
    if stopping:
        more = f" (and {len(stopping) - 1} more: `millstream topics describe`)" if len(stopping) > 1 else ""
        raise StartupError(stopping[0] + more)
    partitions = event_partitions(settings, facts)
    assert partitions is not None, "an events topic that does not exist stops the start above"
    existing = {topic.name for topic in expected_topics(settings) if topic.duty == "optional"} & set(facts.topics)
    missing_optional = {f.topic for f in findings if f.topic not in facts.topics}
    remarks = [f"topic {f.topic} {f.text}" for f in findings if f.topic not in missing_optional]
    whole = cluster.identity(facts)
    kept = {*settings.topics.events, settings.training_examples_topic, settings.user_state_topic}
    identity = Identity(whole.cluster_id, {name: id_ for name, id_ in whole.topic_ids.items() if name in kept})
    return Preflight(identity, partitions, frozenset(existing), (*warnings(facts), *remarks), facts.is_mock)


def ask(cluster: Cluster, settings: Settings) -> ClusterFacts:
    """Ask for all of the application's topics, configuration included."""
    return cluster.facts([topic.name for topic in expected_topics(settings)], with_config=True)


def refused(cluster: Cluster, settings: Settings, facts: ClusterFacts) -> list[str]:
    """Say what this user may not do and the worker does, a line each."""
    if facts.is_mock:
        return []
    return refusals(settings, cluster.permissions(list(facts.topics), groups_of(settings)))


def create_missing(settings: Settings) -> tuple[list[ExpectedTopic], ClusterFacts]:
    """Create the topics that do not exist; an existing topic is never altered.

    Returns:
        What was created, and the facts from before.

    Raises:
        StartupError: Kafka does not answer, or refuses.
        SettingsError: No Kafka is named.
    """
    cluster = Cluster(settings)
    before = ask(cluster, settings)
    events = _missing(settings, before, only_events=True)
    created = cluster.create(events, before.n_brokers)
    # Asked again: had somebody else made them in the meantime, what follows them must have their partitions.
    facts = ask(cluster, settings) if events else before
    rest = _missing(settings, facts, only_events=False)
    return created + cluster.create(rest, facts.n_brokers), before


def _missing(settings: Settings, facts: ClusterFacts, only_events: bool) -> list[ExpectedTopic]:
    expected = expected_topics(settings, event_partitions(settings, facts))
    # Hidden ones too: Kafka does not tell whether they exist, but refuses their creation in words.
    missing = [topic for topic in expected if topic.name not in facts.topics]
    return [topic for topic in missing if topic.duty == "events" or not only_events]
