"""What must be on the topics after whatever happened, worked out anew from the events alone.

It reads topics, offsets and checkpoints, never a counter of a worker, and shares no decision with the worker: the
rules stand here a second time, as plainly as can be. Two things it takes from the product: how bytes are packed (the
decoders of records and states), and the ledger in a checkpoint. That the weights themselves have met each example once
is not the ledger's word for it: `tests/soak` and `test_trainer.py` compare them, bit for bit, with those of a trainer
that nobody disturbed.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
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
    return list(stream(bootstrap, topic, isolation))


def stream(bootstrap, topic, isolation="read_committed"):
    """As `read`, one record after the other: a soak leaves a million of them."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "checker",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": isolation,
            # That a partition has no more is told when a fetch comes back empty, by default after half a second.
            "fetch.wait.max.ms": 20,
            "log_level": 0,
        }
    )
    open_partitions = set(consumer.list_topics(topic, timeout=20).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, partition, 0) for partition in open_partitions])
    while open_partitions:
        for message in consumer.consume(5000, 0.1):
            if message.error() is None:
                yield message
            elif message.error().code() == KafkaError._PARTITION_EOF:
                open_partitions.discard(message.partition())
            else:
                raise AssertionError(message.error())
    consumer.close()


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


FUZZED = "fuzzed"
"""A header: whether this is an event is for the worker to say, but it must say so, once, and stand by it."""


def expect(records, n_partitions, tag, refused=None):
    """Work through the events of each partition in their order; `refused` are the reasons that came back, by place."""
    expected = Expected()
    for record in records:
        place = record.partition(), record.offset()
        if refused and place in refused and any(name == FUZZED for name, _ in record.headers() or ()):
            outcome, reason = "rejected", refused[place]
            if (origin := _origin(record)) is not None:
                expected.copies[origin[2], origin[3]] += 1
        else:
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
        event = json.loads(value.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None, "not-json"
    needed = ("user_id", "behavior", "timestamp")
    if not isinstance(event, dict) or any(event.get(name) is None for name in needed):
        return None, "schema"
    event = {name: value for name, value in event.items() if value is not None}
    if not all(_is_id(event[name]) for name in ("user_id", "item_id", "event_id") if name in event):
        return None, "schema"
    behavior = event["behavior"]
    if not isinstance(behavior, str):
        return None, "schema"
    if behavior not in ANSWERED and behavior not in NEGATIVE and behavior not in SILENT:
        return None, "unknown-behavior"
    event["timestamp"] = timestamp = _milliseconds(event["timestamp"])
    if timestamp is None:
        return None, "schema"
    if timestamp < 10**11:
        return None, "looks-like-seconds"
    if behavior not in SILENT and "item_id" not in event:
        return None, "schema"
    if timestamp > record.timestamp()[1] + FUTURE_MS:
        return None, "from-the-future"
    return event, None


def _no_number(text):
    raise ValueError(f"{text} is no JSON")


def _is_id(value):
    return isinstance(value, str | int) and not isinstance(value, bool) and 0 < len(str(value)) <= 256


def _milliseconds(value):
    """The event's own time; None where it has none."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        return None if moment.tzinfo is None else round(moment.timestamp() * 1000)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _take(record, place, n_partitions, tag, expected):
    event, reason = refuse(record)
    if event is None:
        return "rejected", reason
    user_id = str(event["user_id"])
    if home_of(user_id, n_partitions) != place[0]:
        return "rekeyed", None
    origin = _origin(record)
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


def _origin(record):
    """Where an event stood first that was sent home: topic, its tag, partition, offset, timestamp."""
    return next((json.loads(value) for name, value in record.headers() or [] if name == "origin"), None)


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
    """What was found. `findings` are what must not be, by kind; the counts are for tests that expect some."""

    expected: Expected
    states: dict = field(default_factory=dict)
    duplicate_lists: int = 0
    duplicate_examples: int = 0
    counts: dict = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    coalesced: int = 0  # events that the list of a later one of their user answers
    position: int = 0
    findings: dict = field(default_factory=dict)

    def find(self, kind, found):
        """Note what must not be."""
        if found:
            self.findings.setdefault(kind, []).extend(found)

    def faults(self):
        """A line for each kind of finding."""
        return [f"{kind}: {len(found)}, such as {found[:3]}" for kind, found in self.findings.items()]


LOST = "events lost"
NO_EVENT = "answers and rejects of no event"
WRONG_STATE = "wrong user states"
TWICE = "examples learned twice"
NEVER = "examples learned never"


def check(application, set_aside=0):
    """Hold everything that an application wrote against what its events amount to.

    All of its events are committed, and its workers have stopped. So many examples were set aside on purpose; None
    where that depends on when the trainer went back.
    """
    report = audit(application)
    assert not report.faults(), "\n".join(report.faults())
    assert set_aside is None or report.counts["quarantined"] == set_aside
    return report


def audit(application, acknowledged=()):
    """As `check`, but finds instead of raising. `acknowledged` are places that the broker gave to producers."""
    settings, n_partitions = application.settings, application.partitions
    tag = preflight(settings).identity.tag(settings.topics.events[0])
    refused = _refused(application)
    records = stream(application.bootstrap, settings.topics.events[0])
    report = Report(expect(records, n_partitions, tag, refused))
    report.find(LOST, sorted(set(acknowledged) - set(report.expected.outcomes)))
    lag = application.lag()
    report.find(LOST, ["events that are not committed"] * lag)
    _audit_lists(application, report)
    _audit_rejected(refused, report)
    report.find(LOST, sorted(report.expected.of("rekeyed") - set(report.expected.copies)))
    report.find(NO_EVENT, sorted(set(report.expected.copies) - report.expected.of("rekeyed")))
    _audit_states(application, tag, report)
    examples = _audit_examples(application, tag, report)
    _audit_learned(application, examples, report)
    return report


def _audit_lists(application, report):
    events_topic = application.settings.topics.events[0]
    expected, answered, coalesced, foreign = report.expected, Counter(), set(), []
    for record in stream(application.bootstrap, application.settings.topics.recommendations):
        answer = decode_recommendation(record.value())
        triggers = [*(answer.also_answers or ()), answer.trigger]
        places = [(trigger.partition, trigger.offset) for trigger in triggers]
        if len(set(places)) != len(places):
            foreign.append(f"a list that answers an event twice: {answer}")
        for trigger, place in zip(triggers, places, strict=True):
            if (trigger.topic, record.key()) != (events_topic, answer.user_id.encode()):
                foreign.append(f"a list elsewhere: {answer}")
            elif expected.answers.get(place) != answer.user_id:
                foreign.append(f"a list for nobody's event: {answer}")
        answered.update(places)
        coalesced.update(places[:-1])
    report.find(NO_EVENT, foreign)
    report.find(LOST, sorted(set(expected.answers) - set(answered)))
    report.duplicate_lists = answered.total() - len(answered)
    report.coalesced = len(coalesced)


def _refused(application):
    """Place to reason of what came back."""
    reasons = {}
    for record in stream(application.bootstrap, application.settings.topics.rejected_events):
        headers = dict(record.headers())
        place = int(headers["source-partition"]), int(headers["source-offset"])
        reasons[place] = headers["reason"].decode()
    return reasons


def _audit_rejected(refused, report):
    expected = report.expected.reasons
    report.find(LOST, [f"not rejected: {place} {expected[place]}" for place in sorted(set(expected) - set(refused))])
    report.find(NO_EVENT, [f"rejected: {place} {refused[place]}" for place in sorted(set(refused) - set(expected))])
    both = sorted(set(expected) & set(refused))
    wrong = [place for place in both if expected[place] != refused[place]]
    report.find(NO_EVENT, [f"{place} is {expected[place]}, not {refused[place]}" for place in wrong])


def committed_states(application):
    """User id to state as a reader of committed records sees the changelog; the last record wins."""
    states = {}
    for record in stream(application.bootstrap, application.settings.user_state_topic):
        key = record.key().decode()
        if not key:
            continue  # the partition's identity
        assert record.partition() == home_of(key, application.partitions)
        states.pop(key, None)
        if record.value() is not None:
            states[key] = decode_state(record.value())
    return states


def _audit_states(application, tag, report):
    report.states = states = committed_states(application)
    known = {user_id: user for user_id, user in report.expected.users.items() if user.applied >= 0}
    report.find(WRONG_STATE, [f"nobody's: {user_id}" for user_id in sorted(set(states) - set(known))])
    report.find(WRONG_STATE, [f"missing: {user_id}" for user_id in sorted(set(known) - set(states))])
    for user_id in sorted(set(known) & set(states)):
        difference = _difference(states[user_id], known[user_id], tag)
        report.find(WRONG_STATE, [f"{user_id}: {difference}"] if difference else [])


def _difference(state, user, tag):
    """Which parts of a user's state are not as they must be."""
    pairs = {
        "applied": (state.applied, {tag: user.applied}),
        "visits": ([tuple(visit) for visit in state.visits], user.visits),
        "negatives": ([tuple(visit) for visit in state.negatives], user.negatives[-20:]),
        "event_ids": (state.event_ids, user.event_ids[-32:]),
        "newest": (state.newest, user.newest),
        "origins": (state.origins, user.origins),
        "listed": (state.listed and state.listed.recommendation_id, user.last_answer),
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _audit_examples(application, tag, report):
    """Give the places that the examples name, in the order of the log."""
    records = read(application.bootstrap, application.settings.training_examples_topic)
    examples = [decode_example(record.value()) for record in records]
    places = [(example.partition, example.offset) for example in examples]
    accepted = report.expected.of("accepted")
    report.find(NO_EVENT, [f"an example of topic {example.topic}" for example in examples if example.topic != tag])
    report.find(NO_EVENT, [f"an example of {place}" for place in sorted(set(places) - accepted)])
    report.find(NEVER, [f"no example of {place}" for place in sorted(accepted - set(places))])
    report.duplicate_examples = len(places) - len(set(places))
    return places


def newest_checkpoint(application, data_dir=None):
    """The one whose position is furthest, of all workers or of one data folder; None where there is none."""
    inside = application.folder.glob("*/checkpoints") if data_dir is None else [data_dir / "checkpoints"]
    folders = [folder for folder in inside if checkpoint.paths(folder)]
    found = [checkpoint.newest(folder).checkpoint for folder in folders]
    return max((each for each in found if each), key=lambda each: each.metadata["position"], default=None)


def _audit_learned(application, examples, report):
    """Up to the newest checkpoint's position every distinct example has ended in exactly one way."""
    newest = newest_checkpoint(application)
    if newest is None:  # stopped before anything was learned
        return
    report.position = newest.metadata["position"]
    seen = examples[: report.position]
    ledger = Ledger()
    ledger.load_state(newest.states["ledger"])
    report.counts = counts = ledger.counts
    n_ended = counts["learned"] + counts["sampled_out"] + counts["quarantined"]
    n_repeated = len(seen) - len(set(seen))
    tags = [source[0] for source in newest.states["ledger"].metadata["sources"]]
    known = {place for place in set(examples) if tags and not ledger.fresh((tags[0], place[0]), place[1])}
    report.find(NEVER, sorted(set(seen) - known))
    report.find(TWICE, [f"an outcome beyond the position: {place}" for place in sorted(known - set(seen))])
    report.find(TWICE, ["outcomes beyond the distinct examples"] * (n_ended - len(set(seen))))
    report.find(NEVER, ["distinct examples beyond the outcomes"] * (len(set(seen)) - n_ended))
    if counts["duplicate"] != n_repeated:
        report.find(TWICE, [f"{n_repeated} examples stand in the log again, {counts['duplicate']} were passed over"])
