"""What `millstream reset --offsets` does on the broker."""

from collections.abc import Callable
from time import monotonic, sleep

from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from stream.delivery import Committer, StateChange
from stream.errors import StartupError
from stream.intake import Assignment
from stream.loading import IDENTITY_KEY
from stream.settings import Settings
from stream.topics.preflight import Preflight

TIMEOUT_SECONDS = 15.0


def reset_positions(settings: Settings, checked: Preflight, instance_id: str, say: Callable[[str], None]) -> int:
    """Forget the committed offsets, and write into each changelog partition what it belongs to now.

    States keep their applied offsets under the tags of the topics they came from: those of topics that are gone say
    nothing about their namesakes, those of topics that are still there keep events from being applied twice.

    Args:
        settings: Of the application.
        checked: What the check of the topics found.
        instance_id: Of this data folder.
        say: Takes a line for the user while the group is waited for.

    Returns:
        The number of partitions.

    Raises:
        StartupError: Workers of the application are running, or the broker refuses.
    """
    admin = AdminClient(dict(settings.librdkafka()))
    _wait_until_empty(admin, settings, say)
    _delete_group(admin, settings.app_id)
    committer = Committer(settings, instance_id)
    committer.start()
    identity = checked.identity.dumps()
    numbers = range(checked.event_partitions)
    # Without a member's generation no offsets are sent: the states alone are what this transaction holds.
    committer.commit([StateChange(number, IDENTITY_KEY, identity) for number in numbers], {}, NOBODY)
    return checked.event_partitions


NOBODY = Assignment(-1, "", frozenset())


def _wait_until_empty(admin: AdminClient, settings: Settings, say: Callable[[str], None]) -> None:
    """A static member that has stopped is in its group until its session ends; nobody can tell it from a live one."""
    deadline = monotonic() + settings.kafka.session_timeout_seconds + 5
    said = False
    while members := _members(admin, settings.app_id):
        if monotonic() > deadline:
            raise StartupError(f"the application is running: stop {', '.join(members)} first")
        if not said:
            say(f"waiting for the session of {', '.join(members)} to end ...")
            said = True
        sleep(0.5)


def _members(admin: AdminClient, group: str) -> list[str]:
    future = admin.describe_consumer_groups([group], request_timeout=TIMEOUT_SECONDS)[group]
    try:
        described = future.result(TIMEOUT_SECONDS)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return []
        raise StartupError(f"group {group} cannot be described: {error.args[0].str()}") from error
    if described.state in (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD):
        return []
    return [member.group_instance_id or member.member_id for member in described.members]


def _delete_group(admin: AdminClient, group: str) -> None:
    try:
        admin.delete_consumer_groups([group], request_timeout=TIMEOUT_SECONDS)[group].result(TIMEOUT_SECONDS)
    except KafkaException as error:
        if error.args[0].code() not in (KafkaError.GROUP_ID_NOT_FOUND, KafkaError._NOENT):
            raise StartupError(f"the offsets of group {group} cannot be deleted: {error.args[0].str()}") from error
