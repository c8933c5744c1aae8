"""What a Kafka says about itself and its topics."""

import base64
import hashlib
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # two of them are missing from its __all__
    AclOperation,
    AdminClient,
    ConfigResource,
    NewTopic,
)

from stream.errors import KafkaAway, StartupError
from stream.identity import Identity
from stream.settings import Settings
from stream.topics.expected import ExpectedTopic
from stream.topics.permissions import Permissions

ANSWER_SECONDS = 15.0
CREATE_SECONDS = 30.0
GROUP_SECONDS = 5.0
"""A group without a coordinator that answers by then is not asked about: joining it waits for as long as it takes."""
POLL_SECONDS = 0.05
REPLICAS = 3
MIN_INSYNC = 2
ATTEMPT_SECONDS = 1.0
_HOPELESS = {
    KafkaError._AUTHENTICATION: "check MILLSTREAM_KAFKA__SASL_USERNAME, __SASL_PASSWORD and __SASL_MECHANISM",
    KafkaError._SSL: "check MILLSTREAM_KAFKA__SSL_CA_LOCATION and the other MILLSTREAM_KAFKA__SSL_... settings",
}
"""Errors that another attempt does not mend, and what may."""
_COORDINATOR_AWAY = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError._TIMED_OUT,
}
_NOT_TOLD = {
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError._UNSUPPORTED_FEATURE,
    KafkaError.GROUP_ID_NOT_FOUND,
}
"""Brokers that do not speak of permissions; one that is missing shows later, as it did before they did."""
MOCK_CLUSTER_PREFIX = "mockCluster"
"""The embedded broker names itself so. It lets requests that it does not know run into their timeout."""


@dataclass(frozen=True)
class TopicFacts:
    """A topic as it is.

    Attributes:
        partitions: How many it has.
        replicas: Of the partition that has the fewest.
        config: Its configuration, defaults included; None where it may not be read.
    """

    partitions: int
    replicas: int
    config: Mapping[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ClusterFacts:
    """A Kafka cluster as it answered, and those of the asked topics that exist."""

    cluster_id: str
    n_brokers: int
    topics: Mapping[str, TopicFacts]
    denied: Collection[str] = ()

    @property
    def is_mock(self) -> bool:
        """Say whether this is librdkafka's embedded broker."""
        return self.cluster_id.startswith(MOCK_CLUSTER_PREFIX)


class _Errors:
    """What went wrong last with the connection.

    Apart from the client, which would else hold itself up: its threads end with the last reference to it.
    """

    def __init__(self) -> None:
        self.last: KafkaError | None = None

    def remember(self, error: KafkaError) -> None:
        # "All brokers down" follows each reason, and says nothing.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.last = error


class Cluster:
    """An administrative client; requests block, and fail with one line."""

    def __init__(self, settings: Settings) -> None:
        """Make the client; nothing is asked yet.

        Raises:
            StartupError: librdkafka cannot use its settings.
        """
        self._address = settings.kafka.bootstrap_servers
        self._errors = _Errors()
        # Kept for life: a future of a client that is gone never resolves.
        config: dict[str, Any] = {**settings.librdkafka(), "error_cb": self._errors.remember, "log_level": 0}
        config["reconnect.backoff.max.ms"] = 1000  # a broker that has just come up is noticed at once
        try:
            self._admin = AdminClient(config)
        except KafkaException as error:
            raise StartupError(f"the settings of Kafka cannot be used: {error.args[0].str()}") from error

    def facts(self, names: Sequence[str], with_config: bool = False) -> ClusterFacts:
        """Ask for the cluster and for these topics.

        Raises:
            KafkaAway: Nobody answers, or not to this user.
        """
        metadata = self._metadata()
        present = {name: metadata.topics[name] for name in names if name in metadata.topics}
        is_mock = str(metadata.cluster_id).startswith(MOCK_CLUSTER_PREFIX)
        denied = [] if is_mock else self._denied([name for name in names if name not in present])
        configs = self._configs(list(present)) if with_config and not is_mock else {}
        topics = {
            name: TopicFacts(
                partitions=len(topic.partitions),
                replicas=min((len(partition.replicas) for partition in topic.partitions.values()), default=0),
                config=configs.get(name),
            )
            for name, topic in present.items()
        }
        return ClusterFacts(str(metadata.cluster_id), len(metadata.brokers), topics, denied)

    def _metadata(self) -> Any:
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                return self._admin.list_topics(timeout=ATTEMPT_SECONDS)
            except KafkaException as error:
                self._admin.poll(0)  # this is when `_remember` is called
                code = self._errors.last.code() if self._errors.last else error.args[0].code()
                if code in _HOPELESS or time.monotonic() > deadline:
                    reason = self._errors.last.str() if self._errors.last else error.args[0].str()
                    way_out = _HOPELESS.get(code, "check MILLSTREAM_KAFKA__BOOTSTRAP_SERVERS and the broker")
                    raise KafkaAway(f"no Kafka answers at {self._address}: {reason}; {way_out}") from error

    def permissions(self, topics: Sequence[str], groups: Sequence[str]) -> Permissions:
        """Ask what this user may do with topics that exist, and with groups, which need not.

        Raises:
            StartupError: Kafka does not say.
        """
        asked = self._admin.describe_topics(
            TopicCollection(list(topics)), include_authorized_operations=True, request_timeout=ANSWER_SECONDS
        )
        told = {
            name: _operations(future, KafkaError.TOPIC_AUTHORIZATION_FAILED, name) for name, future in asked.items()
        }
        return Permissions(told, self._group_operations(groups))

    def _group_operations(self, groups: Sequence[str]) -> dict[str, Collection[AclOperation] | None]:
        """Ask for all groups at once: on a fresh broker, each answer waits for the same coordinator to be chosen."""
        told: dict[str, Collection[AclOperation] | None] = dict.fromkeys(groups)
        left = list(groups)
        deadline = time.monotonic() + GROUP_SECONDS
        while left and time.monotonic() < deadline:
            asked = self._admin.describe_consumer_groups(
                left, include_authorized_operations=True, request_timeout=deadline - time.monotonic() + POLL_SECONDS
            )
            left = []
            for group, future in asked.items():
                try:
                    told[group] = _operations(future, KafkaError.GROUP_AUTHORIZATION_FAILED, group)
                except StartupError as error:
                    # The first question after a broker's start: its coordinators are still loading, or not even chosen.
                    if _code(error.__cause__) not in _COORDINATOR_AWAY:
                        raise
                    left.append(group)
            if left:
                time.sleep(POLL_SECONDS)
        return told

    def identity(self, facts: ClusterFacts) -> Identity:
        """Give the ids of the cluster and of the topics in `facts`.

        Raises:
            StartupError: The topics cannot be described.
        """
        if facts.is_mock:
            return Identity(facts.cluster_id, {name: _invented_id(facts.cluster_id, name) for name in facts.topics})
        if not facts.topics:
            return Identity(facts.cluster_id, {})
        asked = self._admin.describe_topics(TopicCollection(list(facts.topics)), request_timeout=ANSWER_SECONDS)
        ids = {
            name: str(answer(future, f"topic {name} cannot be described").topic_id) for name, future in asked.items()
        }
        return Identity(facts.cluster_id, ids)

    def create(self, topics: Sequence[ExpectedTopic], n_brokers: int) -> list[ExpectedTopic]:
        """Create topics; one that somebody else created in the meantime is left as it is.

        Returns:
            Those that this call created.

        Raises:
            StartupError: A topic could not be created.
        """
        if not topics:
            return []
        replicas = REPLICAS if n_brokers >= REPLICAS else 1
        safety = {"min.insync.replicas": str(MIN_INSYNC)} if replicas >= REPLICAS else {}
        new = [NewTopic(t.name, t.partitions, replicas, config={**t.config, **safety}) for t in topics]
        futures = self._admin.create_topics(new, request_timeout=CREATE_SECONDS)
        created = [topic for topic in topics if _is_created(topic.name, futures[topic.name])]
        self._wait_until_known([topic.name for topic in created])
        return created

    def _wait_until_known(self, names: list[str]) -> None:
        """Wait until the brokers list the new topics: the controller acknowledges them a moment earlier."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while missing := set(names) - set(self.facts(names).topics):
            if time.monotonic() > deadline:
                raise StartupError(f"created, and not listed within {ANSWER_SECONDS:g} s: {', '.join(sorted(missing))}")
            time.sleep(POLL_SECONDS)

    def _denied(self, names: list[str]) -> list[str]:
        """Tell hidden topics from missing ones: a listing leaves out both; described by name, a hidden one says so.

        (A metadata request by name would do too, but a broker that creates topics by itself would then create them.)
        """
        if not names:
            return []
        asked = self._admin.describe_topics(TopicCollection(names), request_timeout=ANSWER_SECONDS)
        denied = []
        for name, future in asked.items():
            try:
                future.result(ANSWER_SECONDS + 5)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    denied.append(name)
            except TimeoutError:
                continue  # then it is told as missing
        return denied

    def _configs(self, names: list[str]) -> dict[str, dict[str, str]]:
        """Read the configurations that this user may read."""
        if not names:
            return {}
        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
        configs: dict[str, dict[str, str]] = {}
        for resource, future in self._admin.describe_configs(resources, request_timeout=ANSWER_SECONDS).items():
            try:
                entries = future.result(ANSWER_SECONDS + 5)
            except (KafkaException, TimeoutError):
                continue
            configs[resource.name] = {key: str(entry.value) for key, entry in entries.items()}
        return configs


def _is_created(name: str, future: Any) -> bool:
    try:
        future.result(CREATE_SECONDS + 5)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        raise StartupError(f"topic {name} could not be created: {error.args[0].str()}") from error
    except TimeoutError as error:
        raise StartupError(f"topic {name} was not created within {CREATE_SECONDS:g} s") from error
    return True


def answer(future: Any, what: str) -> Any:
    """Wait for a future of the administrative client.

    Raises:
        StartupError: Kafka refused, or did not answer; `what` begins the line.
    """
    try:
        return future.result(ANSWER_SECONDS + 5)
    except KafkaException as error:
        raise StartupError(f"{what}: {error.args[0].str()}") from error
    except TimeoutError as error:
        raise StartupError(f"{what}: no answer within {ANSWER_SECONDS:g} s") from error


def _operations(future: Any, denial: int, name: str) -> Collection[AclOperation] | None:
    try:
        operations: Collection[AclOperation] | None = answer(
            future, f"what this user may do with {name} cannot be asked"
        ).authorized_operations
    except StartupError as error:
        if _code(error.__cause__) == denial:
            return ()
        if _code(error.__cause__) in _NOT_TOLD:
            return None
        if _code(error.__cause__) == KafkaError.UNKNOWN_TOPIC_OR_PART:  # it was listed a moment ago
            raise StartupError(f"topic {name} does not exist any more; `millstream topics create` makes it") from error
        raise
    return operations


def _code(error: BaseException | None) -> int | None:
    return int(error.args[0].code()) if isinstance(error, KafkaException) else None


def _invented_id(cluster_id: str, topic: str) -> str:
    """Name a topic of the mock broker, which has no topic ids: unique, and other ones for the next mock cluster."""
    return base64.urlsafe_b64encode(hashlib.sha256(f"{cluster_id}/{topic}".encode()).digest()[:16]).decode()[:22]
