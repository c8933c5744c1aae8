"""Whatever stands in a topic: each record ends in exactly one way, and nothing ends the process."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from monitoring.metrics import Metrics
from online_model.config import ModelConfig
from online_model.learner import OnlineLearner
from online_model.protocol import Context, Example
from online_model.serving import ServingModel
from stream.behaviors import behavior_table
from stream.delivery import MAX_MESSAGE_BYTES, Output
from stream.identity import Identity
from stream.overload import HISTORY_MS, Regime
from stream.records import MAX_ALSO_ANSWERS, REJECTION_REASONS, answered, decode_example, decode_recommendation
from stream.reporting import report_published
from stream.scorer import Processed, Scorer
from stream.settings import Settings
from stream.users import UserTable, home_partition

N_PARTITIONS = 4
NOW = 1_700_000_100_000
SETTINGS = Settings()
SCORER = Scorer(
    SETTINGS,
    Identity("cluster", {"user-events": "topicid-of-events"}),
    behavior_table(SETTINGS.behaviors),
    N_PARTITIONS,
    lambda user: f"pseudonym of {user}",
    lambda: NOW,
)


CALM = Regime(live_since=NOW - 60_000)
OVERLOADED = Regime(live_since=NOW - 60_000, coalesce=True)


def model() -> ServingModel:
    learner = OnlineLearner(ModelConfig(hidden=4, negatives=8, device="cpu"))
    learner.learn([Example(Context(), f"i{number}") for number in range(30)])
    return ServingModel(learner.update(full=True))


MODEL = model()


@dataclass
class Record:
    value: bytes | None
    partition: int = 0
    offset: int = 0
    key: bytes | None = b"key"
    topic: str = "user-events"
    timestamp: int = NOW
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)


def event(user: object = "u", item: object = "i1", time: object = NOW - 1000, **more: object) -> bytes:
    return json.dumps({"user_id": user, "item_id": item, "behavior": "view", "timestamp": time, **more}).encode()


def process(records: list[Record], users: UserTable | None = None, regime: Regime = CALM) -> Processed:
    table = UserTable(N_PARTITIONS, 1000) if users is None else users
    return SCORER.process(records, table, MODEL, MODEL.version, regime=regime)


def to(outputs: list[Output], topic: str) -> list[Output]:
    return [output for output in outputs if output.topic == topic]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
names = st.sampled_from(
    ["user_id", "item_id", "behavior", "timestamp", "event_id", "context", "items", "value", "query"]
)
almost_events = st.dictionaries(names, json_values, max_size=4).map(
    lambda changes: json.dumps(
        {"user_id": "u", "item_id": "i", "behavior": "view", "timestamp": NOW, **changes}
    ).encode()
)
values = st.none() | st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()) | almost_events
origins = st.lists(st.text(max_size=3) | st.integers() | st.floats() | st.just(10**400), min_size=4, max_size=6).map(
    lambda fields: json.dumps(fields).encode()
)
headers = st.lists(
    st.tuples(
        st.sampled_from(["origin", "traceparent", "other"]),
        st.none() | st.binary(max_size=30) | st.just(b"[" * 50_000) | origins,
    ),
    max_size=3,
)
records = st.builds(
    Record,
    value=values,
    partition=st.integers(0, N_PARTITIONS - 1),
    key=st.none() | st.binary(max_size=10),
    timestamp=st.sampled_from([-1, 0, NOW]),
    headers=headers,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(records, max_size=12))
def test_each_record_ends_in_exactly_one_way(batch: list[Record]) -> None:
    for offset, record in enumerate(batch):
        record.offset = offset
    done = process(batch)
    assert done.outcomes.total() == len(batch)
    assert len(to(done.outputs, SETTINGS.training_examples_topic)) == done.outcomes["accepted"] == done.n_examples
    assert len(to(done.outputs, "rejected-events")) == done.outcomes["rejected"] == done.rejected.total()
    assert len(to(done.outputs, "user-events")) == done.outcomes["rekeyed"]
    assert set(done.rejected) <= set(REJECTION_REASONS)
    for output in to(done.outputs, "rejected-events"):
        stands_at = {name: value for name, value in output.headers or () if name.startswith("source-")}
        source = batch[int(stands_at["source-offset"] or -1)]
        assert (output.key, output.value) == (source.key, source.value)


def test_two_events_of_one_user_in_one_batch_get_two_lists_and_the_second_is_measured_on_the_first() -> None:
    home = home_partition("u", N_PARTITIONS)
    first = process([Record(event(item="i1"), home, 0)])
    best = decode_recommendation(to(first.outputs, "recommendations")[0].value or b"").items[0].item_id
    done = process([Record(event(item="i1"), home, 0), Record(event(item=best, time=NOW - 500), home, 1)])
    lists = [decode_recommendation(output.value or b"") for output in to(done.outputs, "recommendations")]
    examples = [decode_example(output.value or b"") for output in to(done.outputs, SETTINGS.training_examples_topic)]
    assert [answer.trigger.offset for answer in lists if answer.trigger] == [0, 1]
    assert examples[1].scored
    assert examples[1].rank == 1
    assert examples[1].recommendation_id == lists[0].recommendation_id
    assert done.overlay["u"].listed is not None
    assert done.overlay["u"].listed.recommendation_id == lists[1].recommendation_id


def test_an_event_away_from_home_is_sent_there_with_its_place_and_answered_by_that() -> None:
    home = home_partition("u", N_PARTITIONS)
    away = (home + 1) % N_PARTITIONS
    sent = process([Record(event(), away, 77, key=None)])
    assert sent.outcomes == {"rekeyed": 1}
    (copy,) = sent.outputs
    assert (copy.partition, copy.key, copy.value) == (home, b"u", event())
    arrived = Record(copy.value, home, 5, copy.key, headers=list(copy.headers or ()))
    done = process([arrived])
    trigger = decode_recommendation(to(done.outputs, "recommendations")[0].value or b"").trigger
    assert trigger is not None
    assert (trigger.partition, trigger.offset) == (away, 77)
    users = UserTable(N_PARTITIONS, 1000)
    users.push(done.overlay)
    again = Record(copy.value, home, 6, copy.key, headers=list(copy.headers or ()))
    assert process([again], users).outcomes == {"replayed": 1}


def test_what_is_too_large_to_carry_on_is_rejected_and_cut_and_never_an_exit() -> None:
    """Red where integers may have more than 64 bits."""
    home = home_partition("u", N_PARTITIONS)
    huge: list[Any] = [
        Record(b"x" * 2_000_000, 0, 0, key=b"k" * 500_000, headers=[("h", b"y" * 500_000)]),
        Record(event(), (home + 1) % N_PARTITIONS, 1, headers=[("h", b"y" * 500_000)]),
        Record(event(user="x" * 300), 0, 2),
        Record(event(context={"n": 10**30}), home, 3),
    ]
    done = process(huge)
    assert done.outcomes == {"rejected": 4}
    for output in done.outputs:
        carried = sum(len(name) + len(value or b"") for name, value in output.headers or ())
        assert len(output.key or b"") + len(output.value or b"") + carried < 1_000_000
    assert ("cut-from-bytes", b"2000000") in (done.outputs[0].headers or ())


@pytest.mark.parametrize(
    "value",
    [
        b"[" * 60_000,
        b'["t","x",Infinity,0,0]',
        b'["t","x",0,' + b"9" * 4000 + b",0]",
        b'["t","x",0,99999999999999999999,0]',
        b'["t","x",0,-1,0]',
        b'["t","' + b"x" * 900_000 + b'",0,0,0]',
        b'["' + b"t" * 900_000 + b'","x",0,0,0]',
        b'["\xff","x",0,0,0]',
    ],
)
def test_a_forged_origin_is_passed_over_and_does_not_hide_ours(value: bytes) -> None:
    """Seen red with `json.loads`: nesting, infinity and long integers raised out of the batch, long tags were kept."""
    home = home_partition("u", N_PARTITIONS)
    ours = json.dumps(["user-events", "topici", 1, 77, NOW]).encode()
    done = process([Record(event(), home, 0, headers=[("origin", value), ("origin", ours)])])
    assert done.outcomes == {"accepted": 1}
    trigger = decode_recommendation(to(done.outputs, "recommendations")[0].value or b"").trigger
    assert trigger is not None
    assert (trigger.partition, trigger.offset) == (1, 77)
    assert all(len(output.value or b"") < 65_536 for output in done.outputs)


@pytest.mark.parametrize("carried", [[("", None)] * 400_000, [("\U0001f600" * 30_000, b"")]])
def test_headers_weigh_what_they_weigh_on_the_wire(carried: list[tuple[str, bytes | None]]) -> None:
    """Seen red where the characters of headers were summed up: a megabyte of empty ones weighed nothing."""
    home = home_partition("u", N_PARTITIONS)
    done = process(
        [
            Record(b"x" * 900_000, home, 0, key=b"k" * 32_768, headers=carried),
            Record(event(), (home + 1) % N_PARTITIONS, 1, headers=carried),
        ]
    )
    assert done.outcomes == {"rejected": 2}
    for output in done.outputs:
        sizes = (len(name.encode()) + len(value or b"") + 10 for name, value in output.headers or ())
        assert len(output.key or b"") + len(output.value or b"") + sum(sizes) < MAX_MESSAGE_BYTES


def test_no_record_makes_a_series_of_its_own() -> None:
    """Seen red with a counter that is labelled by what the record says."""
    metrics = Metrics(CollectorRegistry())

    def series() -> int:
        return sum(1 for line in metrics.exposition().splitlines() if not line.startswith(b"#"))

    odd: list[Record] = []
    for number in range(200):
        fields: dict[str, object] = {"surface": f"s{number}", "behavior": f"b{number}" if number % 2 else "view"}
        odd.append(
            Record(event(f"u{number}", f"i{number}", context={f"c{number}": 1}, **fields), number % N_PARTITIONS)
        )
        odd.append(Record(b"?", 0, key=f"k{number}".encode(), headers=[(f"h{number}", b"x")]))
    report_published(metrics, process(odd[:2]), 0.1, NOW)
    before = series()
    report_published(metrics, process(odd), 0.1, NOW)
    assert series() == before


def test_an_old_event_is_learned_and_not_answered() -> None:
    home = home_partition("u", N_PARTITIONS)
    scorer = Scorer(
        Settings(answer_max_age=60),
        Identity("cluster", {"user-events": "topicid"}),
        behavior_table(SETTINGS.behaviors),
        N_PARTITIONS,
        str,
        lambda: NOW,
    )
    batch = [
        Record(event(), home, 0, timestamp=NOW - 61_000),
        Record(event(item="i2"), home, 1, timestamp=NOW - 59_000),
    ]
    done = scorer.process(batch, UserTable(N_PARTITIONS, 10), MODEL, 1)
    examples = [decode_example(output.value or b"") for output in to(done.outputs, SETTINGS.training_examples_topic)]
    assert len(to(done.outputs, "recommendations")) == 1
    assert [example.unscored for example in examples] == ["first", "no_list"]


people = st.sampled_from([f"u{n}" for n in range(4)])
deeds = st.tuples(
    people,
    st.sampled_from(["view", "view", "cart", "dislike", "search"]),
    st.sampled_from(["i1", "i2", "i3", "i4"]),
    st.integers(-5_000, 0),
    st.booleans(),
)


def stream(steps: list[Any]) -> list[Record]:
    """Live events, and now and then one that happened long before it came."""
    found = []
    for offset, (user, behavior, item, time, is_history) in enumerate(steps):
        at = NOW + time - (HISTORY_MS + 1 if is_history else 0)
        value = event(user, item, at, behavior=behavior, query="q")
        found.append(Record(value, home_partition(user, N_PARTITIONS), offset))
    return found


def lists_of(done: Processed) -> list[Any]:
    return [decode_recommendation(output.value or b"") for output in to(done.outputs, "recommendations")]


def examples_of(done: Processed) -> list[Any]:
    return [decode_example(output.value or b"") for output in to(done.outputs, SETTINGS.training_examples_topic)]


@settings(max_examples=100, deadline=None)
@given(st.lists(deeds, max_size=14))
def test_coalesced_or_not_every_event_is_applied_answered_and_an_example(steps: list[Any]) -> None:
    """Seen to turn red where an event's own earlier ones are dropped when it is coalesced itself."""
    batch = stream(steps)
    calm, done = process(batch), process(batch, regime=OVERLOADED)
    assert calm.n_coalesced == 0
    assert all(len(answered(answer)) == 1 for answer in lists_of(calm))
    assert done.outcomes == calm.outcomes
    wanted = sorted(answer.trigger.offset for answer in lists_of(calm))
    places = [trigger.offset for answer in lists_of(done) for trigger in answered(answer)]
    assert sorted(places) == wanted
    assert len(lists_of(done)) + done.n_coalesced == len(wanted) == len(done.answered_at)
    for answer in lists_of(done):
        offsets = [trigger.offset for trigger in answered(answer)]
        assert offsets == sorted(offsets)
        assert {json.loads(batch[offset].value or b"")["user_id"] for offset in offsets} == {answer.user_id}
        assert len(offsets) == 1 or not any(steps[offset][4] for offset in offsets), "history is answered one by one"
    plain, given_way = examples_of(calm), examples_of(done)
    learned_from = ("offset", "item", "behavior", "time", "history", "sitting", "weight", "backlog")
    assert [[getattr(e, name) for name in learned_from] for e in given_way] == [
        [getattr(e, name) for name in learned_from] for e in plain
    ]
    for user_id, state in calm.overlay.items():
        other = done.overlay[user_id]
        assert (other.visits, other.negatives, other.applied) == (state.visits, state.negatives, state.applied)
        assert (other.listed and other.listed.recommendation_id) == (state.listed and state.listed.recommendation_id)


def test_who_follows_a_coalesced_event_is_not_scored_for_nobody_made_a_list_in_between() -> None:
    home = home_partition("u", N_PARTITIONS)
    first = process([Record(event(item="i1", time=NOW - 4000), home, 0)], regime=CALM)
    users = UserTable(N_PARTITIONS, 1000)
    users.push(first.overlay)
    batch = [Record(event(item=f"i{n + 2}", time=NOW - 3000 + n), home, n + 1) for n in range(3)]
    done = process(batch, users, OVERLOADED)
    (answer,) = lists_of(done)
    assert [trigger.offset for trigger in answer.also_answers] == [1, 2]
    assert answer.trigger.offset == 3
    examples = examples_of(done)
    assert [example.unscored for example in examples] == [None, "no_list", "no_list"]
    assert {example.recommendation_id for example in examples} == {lists_of(first)[0].recommendation_id}
    users.push(done.overlay)
    after = process([Record(event(item="i9", time=NOW - 100), home, 4)], users, OVERLOADED)
    assert examples_of(after)[0].scored
    assert examples_of(after)[0].recommendation_id == answer.recommendation_id


def test_one_list_answers_no_more_events_than_fit_into_a_record() -> None:
    home = home_partition("u", N_PARTITIONS)
    # The longest ids there are, in the characters that JSON makes the most of.
    batch = [
        Record(event(item=f"i{n % 9}", event_id=f"{n:04}".ljust(256, "\x01")), home, n)
        for n in range(2 * MAX_ALSO_ANSWERS)
    ]
    done = process(batch, regime=OVERLOADED)
    assert [len(answered(answer)) for answer in lists_of(done)] == [MAX_ALSO_ANSWERS + 1, MAX_ALSO_ANSWERS - 1]
    assert max(len(output.value or b"") for output in done.outputs) < 500_000


def test_what_came_before_the_worker_caught_up_is_a_backlog_and_says_so() -> None:
    home = home_partition("u", N_PARTITIONS)
    batch = [
        Record(event(item="i1", time=NOW - 90_000), home, 0, timestamp=NOW - 90_000),
        Record(event(item="i2", time=NOW - 80_000), home, 1, timestamp=NOW - 80_000),
        Record(event(item="i3", time=NOW - 2_000), home, 2, timestamp=NOW - 1_500),
        Record(event(item="i4", time=NOW - 1_000), home, 3, timestamp=NOW - 1_000),
    ]
    done = process(batch, regime=OVERLOADED)
    assert [len(answered(answer)) for answer in lists_of(done)] == [1, 1, 2]
    assert [example.backlog for example in examples_of(done)] == [True, True, False, False]
    assert done.oldest_live == NOW - 1_500
    at_first = process(batch, regime=Regime(None, coalesce=True))
    assert at_first.n_coalesced == 0
    assert at_first.oldest_live is None
