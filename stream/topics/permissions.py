"""What the worker's user must be allowed, and what Kafka says it is: a refused worker would live and do nothing."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from confluent_kafka.admin import AclOperation  # type: ignore[attr-defined]  # missing from its __all__

from stream.settings import Settings
from stream.topics.expected import Duty, ExpectedTopic, expected_topics

_READ_AND_WRITE: Final = (AclOperation.DESCRIBE, AclOperation.READ, AclOperation.WRITE)
_TOPICS: Final[Mapping[Duty, tuple[AclOperation, ...]]] = {
    "events": _READ_AND_WRITE,  # written too: an event that stands away from its user's home is sent there
    "output": (AclOperation.DESCRIBE, AclOperation.WRITE),
    "examples": _READ_AND_WRITE,
    "state": _READ_AND_WRITE,
}
_GROUPS: Final = (AclOperation.DESCRIBE, AclOperation.READ)

Allowed = Mapping[str, Collection[AclOperation] | None]
"""Name to the operations that are allowed on it: none, where it may not even be described; None where nobody says."""


@dataclass(frozen=True)
class Permissions:
    """What Kafka says about this user."""

    topics: Allowed
    groups: Allowed


def groups_of(settings: Settings) -> list[str]:
    """List the groups that a worker joins: the scorers', and the trainer's.

    >>> groups_of(Settings(app_id="shop"))
    ['shop', 'shop-trainer']
    """
    return [settings.app_id, f"{settings.app_id}-trainer"]


def refusals(settings: Settings, permissions: Permissions) -> list[str]:
    """Say what is missing, a line each. Pure: facts in, lines out."""
    topics = {topic.name: topic for topic in expected_topics(settings)}
    lines = [
        _line("topic", name, missing, f"--topic {name}")
        for name, missing in _missing(permissions.topics, lambda name: needed_on(topics[name]))
    ]
    return lines + [
        _line("group", name, missing, f"--group {name}")
        for name, missing in _missing(permissions.groups, lambda _: _GROUPS)
    ]


def may_not_transact(transactional_id: str) -> str:
    """Say that a transactional id is refused. Kafka has no question for it: its first use tells."""
    return _line("transactional id", transactional_id, [AclOperation.WRITE], f"--transactional-id {transactional_id}")


def hidden(topic: ExpectedTopic) -> str:
    """Say what is missing on a topic that may not even be described."""
    needed = list(needed_on(topic)) or [AclOperation.DESCRIBE]
    return f"is hidden from this user, or missing: {_line('topic', topic.name, needed, f'--topic {topic.name}')}"


def needed_on(topic: ExpectedTopic) -> tuple[AclOperation, ...]:
    """Name the operations that the worker carries out on a topic; none on those that it starts without."""
    return _TOPICS.get(topic.duty, ())


def _missing(
    allowed: Allowed, needed: Callable[[str], tuple[AclOperation, ...]]
) -> Iterator[tuple[str, list[AclOperation]]]:
    for name, operations in allowed.items():
        if operations is not None and (missing := [each for each in needed(name) if each not in operations]):
            yield name, missing


def _line(kind: str, name: str, missing: list[AclOperation], option: str) -> str:
    names = [operation.name for operation in missing]
    if len(names) > 1:
        names = [each for each in names if each != "DESCRIBE"]  # comes with each of the others
    commands = " ".join(f"--operation {each.capitalize()}" for each in names)
    return (
        f"this user may not {' and '.join(names)} {kind} {name}: `kafka-acls --add ... {commands} {option}` allows it"
    )
