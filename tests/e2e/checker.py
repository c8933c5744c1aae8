"""What must be on the topics after whatever happened, worked out anew from the events alone.

It reads topics, offsets and checkpoints, never a counter of a worker, and shares no decision with the worker: the
rules stand here a second time, as plainly as can be.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b

from confluent_kafka import Consumer, KafkaError, TopicPartition

from online_model import checkpoint
from online_model.ledger import OUTCOMES, Ledger
from stream.records import decode_example, decode_recommendation
from stream.state import decode_state
from stream.topics.preflight import preflight

ANSWERED = {
    **{"view": "view", "click": "view", "browse": "view", "play": "play"},
    **{"like": "like", "favorite": "like", "favourite": "like", "cart": "cart", "add_to_cart": "cart"},
    **{"buy": "buy", "purchase": "buy", "share": "share"},
}
NEGATIVE = {"dislike": "dislike", "hide": "hide", "return": "return", "uncart": "uncart", "remove_from_cart": "uncart"}
SILENT = {"impression", "search", "unsubscribe"}
LATENESS_MS = 600_000
FUTURE_MS = 300_000


def read(bootstrap, topic, isolation="read_committed"):
    """All records of a topic up to its end, in order within a partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "checker",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": isolation,
            "log_level": 0,
        }
    )
    records, open_partitions = [], set(consumer.list_topics(topic, timeout=20).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, partition, 0) for partition in open_partitions])
    while open_partitions:
        for message in consumer.consume(5000, 0.1):
            if message.error() is None:
                records.append(message)
            elif message.error().code() == KafkaError._PARTITION_EOF:
                open_partitions.discard(message.partition())
            else:
                raise AssertionError(message.error())
    consumer.close()
    return records


def murmur2(data):
    """Kafka's, as its Java client computes it, from its description."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(data)) & mask
    whole = len(data) // 4 * 4
    for start in range(0, whole, 4):
        k = int.from_bytes(data[start : start + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ (k >> 24)) * m & mask)
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ (h >> 13)) * m & mask
    return h ^ (h >> 15)


def home_of(user, n_partitions):
    return (murmur2(user.encode()) & 0x7FFFFFFF) % n_partitions


def hash64(text):
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


@dataclass
class User:
    """What is remembered of a user, as lists that grow."""

    applied: int = -1
    visits: list = field(default_factory=list)
    negatives: list = field(default_factory=list)
    event_ids: list = field(default_factory=list)
    newest: int = 0
    origins: dict = field(default_factory=dict)
    last_answer: str | None = None


@dataclass
class Expected:
    """What the events amount to. Places are (partition, offset) in the events topic."""

    outcomes: dict = field(default_factory=dict)
    reasons: dict = field(default_factory=dict)
    answers: dict = field(default_factory=dict)  # place where the producer put the event -> user
    copies: Counter = field(default_factory=Counter)  # place of the origin -> republished copies
    users: dict = field(default_factory=dict)

    def of(self, outcome):
        return {place for place, found in self.outcomes.items() if found == outcome}


def expect(records, n_partitions, tag):
    """Work through the events of each partition in their order."""
    expected = Expected()
    for record in sorted(records, key=lambda record: (record.partition(), record.offset())):
        place = record.partition(), record.offset()
        outcome, reason = _take(record, place, n_partitions, tag, expected)
        expected.outcomes[place] = outcome
        if reason is not None:
            expected.reasons[place] = reason
    return expected


def refuse(record):
    """The event in the record, or why it is none."""
    value = record.value()
    if value is None:
        return None, "null-value"
    if len(value) > 65_536:
        return None, "too-large"
    try:
        event = json.loads(value)
    except ValueError:
        return None, "not-json"
    needed = ("user_id", "behavior", "timestamp")
    if not isinstance(event, dict) or any(name not in event for name in needed):
        return None, "schema"
    if not all(0 < len(str(event[name])) <= 256 for name in ("user_id", "item_id") if name in event):
        return None, "schema"
    behavior = event["behavior"]
    if behavior not in ANSWERED and behavior not in NEGATIVE and behavior not in SILENT:
        return None, "unknown-behavior"
    if not isinstance(event["timestamp"], int):
        return None, "schema"  # text with an offset is allowed, and used in no test that is checked here
    if event["timestamp"] < 10**11:
        return None, "looks-like-seconds"
    if behavior not in SILENT and "item_id" not in event:
        return None, "schema"
    if event["timestamp"] > record.timestamp()[1] + FUTURE_MS:
        return None, "from-the-future"
    return event, None


def _take(record, place, n_partitions, tag, expected):
    event, reason = refuse(record)
    if event is None:
        return "rejected", reason
    user_id = str(event["user_id"])
    if home_of(user_id, n_partitions) != place[0]:
        return "rekeyed", None
    origin = next((json.loads(value) for name, value in record.headers() or [] if name == "origin"), None)
    user = expected.users.setdefault(user_id, User())
    if origin is not None:
        came_from = origin[2], origin[3]
        expected.copies[came_from] += 1
        if origin[3] <= user.origins.get(f"{origin[1]}/{origin[2]}", -1):
            return "replayed", None
    event_id = None if "event_id" not in event else hash64(str(event["event_id"]))
    if event_id is not None and event_id in user.event_ids[-32:]:
        return "duplicate", None
    if event["timestamp"] < user.newest - LATENESS_MS:
        return "rejected", "too-late"
    _apply(user, event, place[1], event_id, origin)
    if event["behavior"] in ANSWERED:
        produced_at = place if origin is None else came_from
        expected.answers[produced_at] = user_id
        user.last_answer = f"{tag}-{produced_at[0]}-{produced_at[1]}"
    return "accepted", None


def _apply(user, event, offset, event_id, origin):
    behavior, item = event["behavior"], str(event.get("item_id"))
    user.applied = offset
    user.newest = max(user.newest, event["timestamp"])
    if event_id is not None:
        user.event_ids.append(event_id)
    if origin is not None:
        user.origins[f"{origin[1]}/{origin[2]}"] = origin[3]
    if behavior in ANSWERED:
        user.visits.append((item, ANSWERED[behavior], event["timestamp"], offset))
        user.visits = sorted(user.visits, key=lambda visit: visit[2:])[-20:]
    elif behavior in NEGATIVE:
        user.negatives.append((item, NEGATIVE[behavior], event["timestamp"], offset))


@dataclass
class Report:
    """What was found; the counts are for tests that expect some."""

    expected: Expected
    states: dict
    duplicate_lists: int
    duplicate_examples: int
    counts: dict
    coalesced: int = 0  # events that the list of a later one of their user answers


def check(application):
    """Hold everything that an application wrote against what its events amount to.

    All of its events are committed, and its workers have stopped.
    """
    settings, n_partitions = application.settings, application.partitions
    tag = preflight(settings).identity.tag(settings.topics.events[0])
    expected = expect(read(application.bootstrap, settings.topics.events[0]), n_partitions, tag)
    assert application.lag() == 0, "events that are not committed"
    duplicate_lists, coalesced = _check_lists(application, expected)
    _check_rejected(application, expected)
    assert set(expected.copies) == expected.of("rekeyed"), "events that stood elsewhere, and copies of them at home"
    states = _check_states(application, expected, tag)
    examples = _check_examples(application, expected, tag)
    counts = _check_learned(application, examples)
    return Report(expected, states, duplicate_lists, len(examples) - len(set(examples)), counts, coalesced)


def _check_lists(application, expected):
    events_topic = application.settings.topics.events[0]
    answered, coalesced = Counter(), set()
    for record in read(application.bootstrap, application.settings.topics.recommendations):
        answer = decode_recommendation(record.value())
        assert record.key() == answer.user_id.encode()
        triggers = [*(answer.also_answers or ()), answer.trigger]
        places = [(trigger.partition, trigger.offset) for trigger in triggers]
        assert {trigger.topic for trigger in triggers} == {events_topic}
        assert len(set(places)) == len(places)
        for place in places:
            assert expected.answers.get(place) == answer.user_id, f"a list for nobody's event: {answer}"
        answered.update(places)
        coalesced.update(places[:-1])
    missing = set(expected.answers) - set(answered)
    assert not missing, f"{len(missing)} events without a list: {sorted(missing)[:5]}"
    return answered.total() - len(answered), len(coalesced)


def _check_rejected(application, expected):
    reasons = {}
    for record in read(application.bootstrap, application.settings.topics.rejected_events):
        headers = dict(record.headers())
        place = int(headers["source-partition"]), int(headers["source-offset"])
        reasons[place] = headers["reason"].decode()
    assert reasons == expected.reasons


def committed_states(application):
    """User id to state as a reader of committed records sees the changelog; the last record wins."""
    states = {}
    for record in read(application.bootstrap, application.settings.user_state_topic):
        key = record.key().decode()
        if not key:
            continue  # the partition's identity
        assert record.partition() == home_of(key, application.partitions)
        states.pop(key, None)
        if record.value() is not None:
            states[key] = decode_state(record.value())
    return states


def _check_states(application, expected, tag):
    states = committed_states(application)
    known = {user_id: user for user_id, user in expected.users.items() if user.applied >= 0}
    assert set(states) == set(known)
    for user_id, user in known.items():
        state = states[user_id]
        assert state.applied == {tag: user.applied}, user_id
        assert [tuple(visit) for visit in state.visits] == user.visits, user_id
        assert [tuple(visit) for visit in state.negatives] == user.negatives[-20:], user_id
        assert state.event_ids == user.event_ids[-32:], user_id
        assert state.newest == user.newest, user_id
        assert state.origins == user.origins, user_id
        assert (state.listed and state.listed.recommendation_id) == user.last_answer, user_id
    return states


def _check_examples(application, expected, tag):
    """Give the places that the examples name, in the order of the log."""
    records = read(application.bootstrap, application.settings.training_examples_topic)
    examples = [decode_example(record.value()) for record in records]
    assert {example.topic for example in examples} <= {tag}
    places = [(example.partition, example.offset) for example in examples]
    assert set(places) == expected.of("accepted")
    return places


def _check_learned(application, examples):
    """Up to the newest checkpoint's position every distinct example has ended in exactly one way."""
    folders = [folder for folder in application.folder.glob("*/checkpoints") if checkpoint.paths(folder)]
    found = [checkpoint.newest(folder).checkpoint for folder in folders]
    if not found:  # stopped before anything was learned
        return dict.fromkeys(OUTCOMES, 0)
    newest = max(found, key=lambda each: each.metadata["position"])
    seen = examples[: newest.metadata["position"]]
    ledger = Ledger()
    ledger.load_state(newest.states["ledger"])
    counts = ledger.counts
    assert counts["learned"] + counts["sampled_out"] == len(set(seen))
    assert counts["quarantined"] == 0
    assert counts["duplicate"] == len(seen) - len(set(seen))
    tag = newest.states["ledger"].metadata["sources"][0][0]
    assert {place for place in set(examples) if not ledger.fresh((tag, place[0]), place[1])} == set(seen)
    return counts
