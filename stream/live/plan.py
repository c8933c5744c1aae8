"""What the demo is made of: which Kafka, which folder, and the settings of its processes."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream.brokers.choose import BrokerChoice
from stream.errors import StartupError
from stream.settings import ENV_DELIMITER, ENV_PREFIX, FieldSettings, Settings

MOCK_RATE = 100.0
"""Events a second that the mock broker is given at most: its one partition of examples holds 5 MiB, which is half a
minute at this rate, and what the trainer has not read by then is gone."""
MOCK_LIMITS = f"keeps nothing, at most {MOCK_RATE:.0f} events/s"
PARTITIONS = 4
_CHOICES = {
    "auto": BrokerChoice.AUTO,
    "kafka": BrokerChoice.APACHE,
    "apache": BrokerChoice.APACHE,
    "mock": BrokerChoice.MOCK,
}
# So that there is something to see within a minute. What the environment says stands over these.
_TUNED: dict[str, Any] = {
    "measure": {"sample": 1.0, "frozen_after": 4000, "nightly_hours": 0.02},
    "trainer": {"batch_interval_ms": 100, "update_interval_ms": 100, "checkpoint_interval_seconds": 20.0},
    "stop_timeout_seconds": 8.0,
}


@dataclass(frozen=True)
class DemoOptions:
    """What the command line said.

    Attributes:
        broker: A choice, or `host:port` of a Kafka.
        rate: Events a second.
        seconds: How long the view is shown; None until somebody ends it.
        plain: A line every few seconds instead of the live view.
        data_dir: The folder to keep and to continue from; None for a temporary one.
    """

    broker: str
    rate: float
    seconds: float | None
    plain: bool
    data_dir: Path | None


@dataclass(frozen=True)
class BrokerWish:
    """Which Kafka is wanted: a choice, and the address of one that runs already."""

    choice: BrokerChoice
    address: str | None

    @property
    def is_given(self) -> bool:
        """Whether it is somebody's own Kafka, which this process neither starts nor stops."""
        return self.choice is BrokerChoice.AUTO and self.address is not None


def wish(options: DemoOptions, settings: Settings) -> BrokerWish:
    """Read `--broker`.

    Raises:
        StartupError: It is neither a choice nor an address, or what it asks for keeps nothing.
    """
    choice = _CHOICES.get(options.broker)
    if choice is None:
        host, _, port = options.broker.rpartition(":")
        if not host or not port.isascii() or not port.isdigit():
            raise StartupError(f"--broker: expected auto, kafka, mock or host:port, got {options.broker!r}")
        return BrokerWish(BrokerChoice.AUTO, options.broker)
    if choice is BrokerChoice.MOCK and options.data_dir is not None:
        raise StartupError("--data-dir keeps nothing with --broker mock: what that broker holds is gone at its end")
    if choice is BrokerChoice.AUTO:
        return BrokerWish(choice, settings.kafka.bootstrap_servers)
    return BrokerWish(choice, None)


def prefix(is_given: bool, is_kept: bool) -> str:
    """Return what the names of the topics begin with.

    On a Kafka of the user's the demo stays away from `user-events` and all the others; on one of its own they have
    the names that the documentation uses.
    """
    if not is_given:
        return ""
    return "millstream-demo-" if is_kept else f"millstream-demo-{secrets.token_hex(4)}-"


def overrides(
    bootstrap: str, names: str, folder: Path, web_port: int, is_given: bool, environ: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """Return the demo's settings, nested by group, which stand over file and environment.

    Args:
        bootstrap: The address of the Kafka.
        names: What the names of the topics begin with.
        folder: Where the worker keeps its data.
        web_port: Where it is looked at.
        is_given: The Kafka is somebody's own, so how to log in there is in the settings.
        environ: The environment: what it says of the tuned settings is left alone.
    """
    kafka = {"bootstrap_servers": bootstrap} | ({} if is_given else {"security_protocol": "PLAINTEXT"})
    topics = ("recommendations", "rejected_events", "item_catalog", "user_profiles", "erasure_requests")
    forced: dict[str, Any] = {
        "app_id": (names or "millstream-demo-").rstrip("-"),
        "data_dir": str(folder),
        "start": "earliest",
        "log_level": "INFO",
        "kafka": kafka,
        "topics": {
            "events": f"{names}user-events",
            "partitions": PARTITIONS,
            **{topic: names + topic.replace("_", "-") for topic in topics},
        },
        "web": {"host": "127.0.0.1", "port": web_port},
        # The shop's events have the plain names, whatever those of the user's own have.
        "fields": FieldSettings().model_dump(),
    }
    said = {name.upper() for name in environ}
    return _without(_TUNED, ENV_PREFIX, said) | forced


def environment(values: Mapping[str, Any], prefix: str = ENV_PREFIX) -> dict[str, str]:
    """Return nested settings as variables.

    >>> environment({"app_id": "shop", "web": {"port": 0}})
    {'MILLSTREAM_APP_ID': 'shop', 'MILLSTREAM_WEB__PORT': '0'}
    """
    variables: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            variables |= environment(value, prefix + name.upper() + ENV_DELIMITER)
        else:
            variables[prefix + name.upper()] = str(value)
    return variables


def _without(values: Mapping[str, Any], prefix: str, said: set[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in values.items():
        variable = prefix + name.upper()
        if isinstance(value, Mapping):
            kept[name] = _without(value, variable + ENV_DELIMITER, said)
        elif variable not in said:
            kept[name] = value
    return kept
