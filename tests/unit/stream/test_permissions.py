"""What is missing for the worker's user, in lines that name it and the way out."""

import pytest
from confluent_kafka.admin import AclOperation

from stream.settings import Settings
from stream.topics.expected import expected_topics
from stream.topics.permissions import Permissions, groups_of, refusals

SETTINGS = Settings(app_id="shop")
READ, WRITE, DESCRIBE, ALTER = AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE, AclOperation.ALTER
FULL = (READ, WRITE, DESCRIBE, ALTER)


def told(**without):
    """Everything is allowed, but for `name=(operations)`; dashes written as underscores."""
    names = [topic.name for topic in expected_topics(SETTINGS)]
    changed = {name.replace("_", "-"): operations for name, operations in without.items()}
    topics = {name: changed.get(name, FULL) for name in names}
    return Permissions(topics, {group: changed.get(group, FULL) for group in groups_of(SETTINGS)})


def test_nothing_is_said_where_nothing_is_missing_or_nobody_says():
    assert refusals(SETTINGS, told()) == []
    assert refusals(SETTINGS, told(user_events=None, shop=None)) == []
    assert refusals(SETTINGS, told(recommendations=(WRITE, DESCRIBE), item_catalog=())) == []


@pytest.mark.parametrize(
    ("name", "operations", "words"),
    [
        ("user_events", (READ, DESCRIBE), "may not WRITE topic user-events"),
        ("user_events", (WRITE, DESCRIBE), "may not READ topic user-events"),
        ("user_events", (), "may not READ and WRITE topic user-events"),
        ("recommendations", (DESCRIBE,), "may not WRITE topic recommendations"),
        ("rejected_events", (READ,), "may not WRITE topic rejected-events"),
        ("shop_training_examples", (WRITE, DESCRIBE), "may not READ topic shop-training-examples"),
        ("shop_user_state", (READ, DESCRIBE), "may not WRITE topic shop-user-state"),
        ("shop", (DESCRIBE,), "may not READ group shop"),
        ("shop_trainer", (), "may not READ group shop-trainer"),
    ],
)
def test_what_is_missing_is_one_line(name, operations, words):
    """Seen red with the operation taken from the table."""
    (line,) = refusals(SETTINGS, told(**{name: operations}))
    assert f"this user {words}: `kafka-acls --add" in line
    assert "\n" not in line
