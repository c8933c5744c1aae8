"""A batch of records into what is published and what is remembered of it. No Kafka, and no clock but the one given.

The order inside a batch: decode, send home what stands elsewhere, advance each user's state, answer all of them in one
go, then measure each event against the list that stood before it, which may be one made in this very batch.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from time import perf_counter
from typing import Annotated, NamedTuple

import msgspec

from online_model.protocol import Ranked, Recommender, Request
from stream.behaviors import SEQUENCE_ROLES, Behavior
from stream.delivery import Output
from stream.identity import Identity
from stream.intake import Record
from stream.overload import Regime
from stream.records import (
    MAX_ALSO_ANSWERS,
    MAX_ATTACHED_BYTES,
    MAX_DETAIL_CHARACTERS,
    MAX_REJECT_BYTES,
    MAX_TRACEPARENT_BYTES,
    Event,
    Recommendation,
    RecommendedItem,
    Rejection,
    TrainingExample,
    Trigger,
    encode_example,
    encode_recommendation,
    event_decoder,
    future_rejection,
)
from stream.settings import Exclusion, Settings
from stream.state import (
    Applied,
    Limits,
    Listed,
    Place,
    UserState,
    advance,
    context_after,
    context_of,
    excluded_items,
    hash64,
    judge,
    with_list,
)
from stream.users import Overlay, UserTable, home_partition

POLICY = "live"
VARIANT = "default"
ORIGIN_HEADER = "origin"
_HEADER_BYTES = 16
_SCORE_STEPS = 1e5
_PROBABILITY_STEPS = 1e6
"""Numbers in a list are rounded to five and six decimal places."""


class Origin(NamedTuple):
    """Where an event stood that was republished to its user's home."""

    topic: str
    place: Place
    timestamp: int


@dataclass(slots=True)
class Processed:
    """What a batch came to.

    Attributes:
        outputs: Records to publish.
        overlay: New states of the touched users.
        outcomes: Events by outcome: accepted, rejected, duplicate, replayed, rekeyed.
        rejected: Rejections by reason.
        answered_at: For each event that is answered its Kafka timestamp, ms.
        n_coalesced: How many of these are answered by the list of a later one.
        oldest_live: Least Kafka timestamp among the accepted live events, ms; None where there is none.
        n_examples: Training examples among the outputs.
        stage_seconds: Time spent by stage.
    """

    outputs: list[Output] = field(default_factory=list)
    overlay: Overlay = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    answered_at: list[int] = field(default_factory=list)
    n_coalesced: int = 0
    oldest_live: int | None = None
    n_examples: int = 0
    stage_seconds: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Step:
    """An applied event on its way to an example and, where it is answered, to a list.

    `earlier` are events of the same user that this one's list answers too, oldest first.
    """

    record: Record
    event: Event
    applied: Applied
    place: Place
    origin: Origin | None
    live: bool
    request: Request | None = None
    ranked: Ranked | None = None
    earlier: list["_Step"] = field(default_factory=list)

    @property
    def trigger(self) -> Trigger:
        """The event as its answer names it: where the producer put it."""
        topic, place, _ = self.origin or Origin(self.record.topic, self.place, self.record.timestamp)
        return Trigger(topic, place.partition, place.offset, self.event.timestamp, self.event.event_id)


def recommended_items(ranked: Ranked) -> list[RecommendedItem]:
    """Return a list as it stands in a record; probabilities are left out while they cannot be told."""
    # Twenty places of every answer are made here: no loop of this module's own, and no decimal arithmetic.
    scores = [round(score * _SCORE_STEPS) / _SCORE_STEPS for score in ranked.scores]
    if ranked.probabilities is None:
        return list(map(RecommendedItem, ranked.items, scores, ranked.sources))
    chances = [round(chance * _PROBABILITY_STEPS) / _PROBABILITY_STEPS for chance in ranked.probabilities]
    return list(map(RecommendedItem, ranked.items, scores, ranked.sources, repeat(1.0), chances))


class Scorer:
    """Turns batches into outputs. Used by one thread at a time.

    Args:
        settings: Of the worker.
        identity: Of the source topics.
        behaviors: What each behaviour's name means.
        n_partitions: Of the source topics.
        pseudonym: User id to the name used in examples.
        now_ms: The wall clock, milliseconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        behaviors: dict[str, Behavior],
        n_partitions: int,
        pseudonym: Callable[[str], str],
        now_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._n_partitions = n_partitions
        self._pseudonym = pseudonym
        self._now_ms = now_ms
        self._decode = event_decoder(settings.fields, behaviors)
        sequence = settings.sequence
        self._limits = Limits(
            sequence.sitting_gap_seconds * 1000, sequence.allowed_lateness_seconds * 1000, settings.lists.exclude
        )
        self._allowed_future_ms = sequence.allowed_future_seconds * 1000
        self._max_age_ms = None if settings.answer_max_age is None else settings.answer_max_age * 1000

    def process(
        self,
        records: Iterable[Record],
        users: UserTable,
        model: Recommender,
        model_version: int,
        *uncommitted: Overlay,
        regime: Regime = Regime(),  # noqa: B008  # immutable
    ) -> Processed:
        """Work through a batch; nothing that is passed in changes.

        Args:
            records: In the order of their offsets within a partition.
            users: The states before the batch.
            model: Makes the lists.
            model_version: Of the weights in `model`.
            *uncommitted: Layers of state above those in `users`, newest first.
            regime: Which events are live, and whether one list may answer several of them.
        """
        done = Processed()
        started = perf_counter()
        steps = self._advance(records, users, uncommitted, regime, done)
        done.oldest_live = min((step.record.timestamp for step in steps if step.live), default=None)
        if regime.coalesce:
            done.n_coalesced = _coalesce(steps)
        decoded = perf_counter()
        self._rank(steps, model)
        scored = perf_counter()
        self._answer(steps, model_version, done)
        done.stage_seconds = {"decode": decoded - started, "score": scored - decoded, "encode": perf_counter() - scored}
        return done

    def request_for(self, state: UserState, now: int, exclude: Exclusion | None = None) -> Request:
        """Return what is asked of the model for a user at event time `now` (ms).

        Args:
            state: The user's.
            now: Milliseconds since the epoch.
            exclude: What may not be listed; None for what the settings say.
        """
        context = context_of(state.visits, now, self._limits.sitting_gap_ms)
        return Request(context, excluded_items(state, context, exclude or self._limits.exclude))

    def _rank(self, steps: Iterable[_Step], model: Recommender) -> None:
        asked = [(step, step.request) for step in steps if step.request is not None]
        # A batch that has grown is asked for in parts: the whole catalogue's scores for all of it would take gigabytes.
        n_at_once = self._settings.intake.max_batch
        for start in range(0, len(asked), n_at_once):
            part = asked[start : start + n_at_once]
            lists = model.recommend([request for _, request in part], self._settings.lists.k)
            for (step, _), ranked in zip(part, lists, strict=True):
                step.ranked = ranked

    def _advance(
        self,
        records: Iterable[Record],
        users: UserTable,
        uncommitted: Sequence[Overlay],
        regime: Regime,
        done: Processed,
    ) -> list[_Step]:
        steps: list[_Step] = []
        for record in records:
            outcome = self._take(record, users, uncommitted, regime, done)
            if isinstance(outcome, _Step):
                done.outcomes["accepted"] += 1
                steps.append(outcome)
            elif isinstance(outcome, Rejection):
                done.outcomes["rejected"] += 1
                done.rejected[outcome.reason] += 1
                done.outputs.append(self._reject(record, outcome))
            else:
                done.outcomes[outcome] += 1
        return steps

    def _take(
        self,
        record: Record,
        users: UserTable,
        uncommitted: Sequence[Overlay],
        regime: Regime,
        done: Processed,
    ) -> _Step | Rejection | str:
        event = self._decode(record.value)
        if isinstance(event, Rejection):
            return event
        if (rejection := future_rejection(event, record.timestamp, self._allowed_future_ms)) is not None:
            return rejection
        home = home_partition(event.user_id, self._n_partitions)
        if home != record.partition:
            if (size := _headers_size(record)) > MAX_ATTACHED_BYTES:
                return Rejection("too-large", f"headers: expected at most {MAX_ATTACHED_BYTES} bytes, got {size}")
            done.outputs.append(self._send_home(record, event, home))
            return "rekeyed"
        origin = _origin_of(record)
        place = Place(self._identity.tag(record.topic), record.partition, record.offset)
        state = users.get(event.user_id, done.overlay, *uncommitted)
        outcome = advance(state, event, place, origin.place if origin else None, self._limits)
        if not isinstance(outcome, Applied):
            return outcome
        done.overlay[event.user_id] = outcome.state
        step = _Step(record, event, outcome, place, origin, regime.is_live(record.timestamp, event.timestamp))
        if self._is_answered(event, record):
            context = context_after(outcome, event, self._limits)
            step.request = Request(context, excluded_items(outcome.state, context, self._limits.exclude))
        return step

    def _is_answered(self, event: Event, record: Record) -> bool:
        if event.role not in SEQUENCE_ROLES:
            return False
        return self._max_age_ms is None or record.timestamp < 0 or self._now_ms() - record.timestamp <= self._max_age_ms

    def _answer(self, steps: Iterable[_Step], model_version: int, done: Processed) -> None:
        """Second pass, in order: each event against the list before it, then its own list.

        An event that is answered by a later one's list leaves the list before it in place. What follows it is not
        scored: nobody was shown a list that knew of it.
        """
        now = self._now_ms()
        lists: dict[str, Listed] = {}
        for step in steps:
            user_id = step.event.user_id
            listed = lists.get(user_id, step.applied.before.listed)
            done.outputs.append(self._example(step, listed))
            done.n_examples += 1
            if step.ranked is None:
                continue
            listed = self._listed(step, step.ranked, model_version, now)
            lists[user_id] = listed
            done.outputs.append(self._recommendation(step, step.ranked, listed))
            done.answered_at += [answered.record.timestamp for answered in (*step.earlier, step)]
        for user_id, last in lists.items():
            done.overlay[user_id] = with_list(done.overlay[user_id], last)

    def _listed(self, step: _Step, ranked: Ranked, model_version: int, now: int) -> Listed:
        trigger = step.origin.place if step.origin else step.place
        return Listed(
            trigger=step.applied.state.visits[-1][2:],
            recommendation_id=f"{trigger.tag}-{trigger.partition}-{trigger.offset}",
            generated_at=now,
            model_version=model_version,
            policy=POLICY,
            variant=VARIANT,
            items=list(map(hash64, ranked.items)),
        )

    def _recommendation(self, step: _Step, ranked: Ranked, listed: Listed) -> Output:
        event, record = step.event, step.record
        value = Recommendation(
            recommendation_id=listed.recommendation_id,
            user_id=event.user_id,
            generated_at=listed.generated_at,
            model_version=listed.model_version,
            policy=listed.policy,
            variant=listed.variant,
            candidates=ranked.n_candidates,
            items=recommended_items(ranked),
            trigger=step.trigger,
            surface=event.record.surface,
            also_answers=[earlier.trigger for earlier in step.earlier] or msgspec.UNSET,
        )
        return Output(
            self._settings.topics.recommendations, event.user_id.encode(), encode_recommendation(value), _trace(record)
        )

    def _example(self, step: _Step, listed: Listed | None) -> Output:
        event, applied, source = step.event, step.applied, step.event.record
        verdict = judge(applied, event, listed, self._limits)
        is_target = event.role in SEQUENCE_ROLES
        example = TrainingExample(
            topic=step.place.tag,
            partition=step.place.partition,
            offset=step.place.offset,
            time=event.timestamp,
            logged_at=step.record.timestamp,
            user=self._pseudonym(event.user_id),
            behavior=event.behavior,
            role=event.role,
            history=list(applied.context.history),
            sitting=applied.context.sitting,
            item=event.item_id,
            items=None if source.items is None else [str(item) for item in source.items],
            position=source.position,
            surface=source.surface,
            query=source.query,
            dwell_seconds=source.dwell_seconds,
            value=source.value,
            context=source.context,
            model_version=listed.model_version if listed else 0,
            policy=listed.policy if listed else "",
            variant=listed.variant if listed else "",
            recommendation_id=listed.recommendation_id if listed else None,
            rank=verdict.rank,
            scored=is_target and verdict.unscored is None,
            unscored=verdict.unscored,
            late_list=listed is not None and 0 <= step.record.timestamp < listed.generated_at,
            answers=source.recommendation_id,
            traceparent=None if (trace := _traceparent(step.record)) is None else trace.decode(errors="replace"),
            backlog=not step.live,
        )
        return Output(self._settings.training_examples_topic, None, encode_example(example), partition=0)

    def _reject(self, record: Record, rejection: Rejection) -> Output:
        key, value = record.key, record.value
        headers: list[tuple[str, bytes | None]] = [
            *(record.headers if _headers_size(record) <= MAX_ATTACHED_BYTES else ()),
            ("reason", rejection.reason.encode()),
            ("detail", rejection.detail[:MAX_DETAIL_CHARACTERS].encode(errors="replace")),
            ("source-topic", record.topic.encode()),
            ("source-partition", b"%d" % record.partition),
            ("source-offset", b"%d" % record.offset),
            ("source-timestamp", b"%d" % record.timestamp),
        ]
        if value is not None and len(value) > MAX_REJECT_BYTES:
            headers.append(("cut-from-bytes", b"%d" % len(value)))
            value = value[:MAX_REJECT_BYTES]
        if key is not None and len(key) > MAX_ATTACHED_BYTES:
            headers.append(("dropped-key-bytes", b"%d" % len(key)))
            key = None
        return Output(self._settings.topics.rejected_events, key, value, headers)

    def _send_home(self, record: Record, event: Event, home: int) -> Output:
        """Republish an event that stands elsewhere, with the place where it stood first.

        A kill before its offset is committed republishes it once more; the home's state remembers the place.
        """
        headers: list[tuple[str, bytes | None]] = list(record.headers)
        if _origin_of(record) is None:
            place = [self._identity.tag(record.topic), record.partition, record.offset]
            headers.append((ORIGIN_HEADER, json.dumps([record.topic, *place, record.timestamp]).encode()))
        return Output(record.topic, event.user_id.encode(), record.value, headers, home)


def _coalesce(steps: Iterable[_Step]) -> int:
    """Let the list of a user's last live event answer the earlier ones too; return how many those are."""
    n_coalesced = 0
    last: dict[str, _Step] = {}
    for step in steps:
        if step.request is None or not step.live:
            continue
        before = last.get(step.event.user_id)
        last[step.event.user_id] = step
        if before is not None and len(before.earlier) < MAX_ALSO_ANSWERS:
            step.earlier, before.earlier, before.request = [*before.earlier, before], [], None
            n_coalesced += 1
    return n_coalesced


_OriginFields = tuple[
    Annotated[str, msgspec.Meta(max_length=249)],  # Kafka's longest topic name
    Annotated[str, msgspec.Meta(max_length=64)],
    Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)],
    Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)],
    Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)],
]
_decode_origin = msgspec.json.Decoder(_OriginFields).decode
_MAX_ORIGIN_BYTES = 2048


def _origin_of(record: Record) -> Origin | None:
    """Read where an event stood first. Anybody can write such a header, so what is none of ours is passed over."""
    if not record.headers:
        return None
    for name, value in record.headers:
        if name == ORIGIN_HEADER and value is not None and len(value) <= _MAX_ORIGIN_BYTES:
            try:
                topic, tag, partition, offset, timestamp = _decode_origin(value)
                return Origin(topic, Place(tag, partition, offset), timestamp)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
    return None


def _traceparent(record: Record) -> bytes | None:
    if not record.headers:
        return None
    for name, value in record.headers:
        if name == "traceparent" and value is not None and len(value) <= MAX_TRACEPARENT_BYTES:
            return value
    return None


def _trace(record: Record) -> list[tuple[str, bytes | None]] | None:
    trace = _traceparent(record)
    return None if trace is None else [("traceparent", trace)]


def _headers_size(record: Record) -> int:
    """Give the bytes of all headers, and a few for each: any number of empty ones would weigh nothing."""
    return sum(len(name.encode()) + len(value or b"") + _HEADER_BYTES for name, value in record.headers)
