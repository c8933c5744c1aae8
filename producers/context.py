"""What the commands need of the settings of the process; the command line passes an object that has it."""

import sys
from typing import NoReturn, Protocol

import typer

from producers.delivery import BrokerUnavailable, existing_topics
from producers.terminal import say


class TopicNames(Protocol):
    """Names of topics."""

    @property
    def events(self) -> list[str]:
        """Where events go; the first is produced to."""

    @property
    def item_catalog(self) -> str:
        """Where titles go."""


class ProducerSettings(Protocol):
    """How to reach Kafka, and what the topics are called."""

    @property
    def topics(self) -> TopicNames:
        """Names of the topics."""

    def librdkafka(self) -> dict[str, str | int | float]:
        """Return the configuration every client starts from; an error of its own kind says that none is named."""


def settings_of(context: typer.Context) -> ProducerSettings:
    """Return the settings that the command line passed down."""
    settings: ProducerSettings = context.obj
    return settings


def require_topic(config: dict[str, str | int | float], topic: str) -> frozenset[str]:
    """Return the topics of the cluster; end with one line where it does not answer, or lacks this one."""
    try:
        topics = existing_topics(config)
    except BrokerUnavailable as error:
        fail(str(error))
    if topic not in topics:
        fail(f"no topic {topic!r} on {config.get('bootstrap.servers')}: make it with `millstream topics create`")
    return topics


def fail(reason: str) -> NoReturn:
    """End with one line that says why."""
    sys.stdout.flush()
    say(f"millstream: {reason}")
    raise typer.Exit(1)
