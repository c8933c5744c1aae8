"""What a trainer tells the process that started it: finished values only, as bytes where a pipe lies between them."""

from dataclasses import dataclass
from typing import TypeAlias

import msgspec
from msgspec import Struct

from online_model.protocol import LearnReport

MeasureTotals: TypeAlias = dict[str, dict[tuple[str, ...], float]]
"""Exact totals of the live measure, as `monitoring.metrics.Metrics` takes them."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call of the learner.

    Attributes:
        report: What it did.
        seconds: What it took.
        n_sampled_out: Examples that were counted and not learned.
    """

    report: LearnReport
    seconds: float
    n_sampled_out: int = 0


class Started(Struct, frozen=True, tag=True):
    """The first message of every run, and after each return to an earlier checkpoint, which is a run of its own.

    Attributes:
        lineage: Of this run; every update of it carries it.
        version: Of the weights at the start.
        position: Offset in the examples log to go on from; None at the log's start.
        resumed_from: The checkpoint's name; None where there was none.
        checkpoint_at: When it was written, seconds since the epoch.
        examples: Totals by outcome, those of earlier runs included.
        measure: Totals of the live measure, those of earlier runs included.
        n_returns: Returns to an earlier checkpoint so far.
        live_since: What Kafka received from then on was live to an earlier run that ended just now, ms; None where
            there was none.
    """

    lineage: str
    version: int
    position: int | None
    resumed_from: str | None
    checkpoint_at: float | None
    examples: dict[str, int]
    measure: MeasureTotals
    n_returns: int = 0
    live_since: int | None = None


class Updated(Struct, frozen=True, tag=True):
    """New weights; the first of a run is full, each later one tells what changed since the one before.

    Attributes:
        version: Of the weights.
        full: It stands for itself.
        oldest_logged_at: Kafka timestamp of the oldest event that this update is the first to know, ms; None for none.
        newest_logged_at: Of the newest.
        payload: The update; see `online_model.serving.Update.decode`.
    """

    version: int
    full: bool
    oldest_logged_at: int | None
    newest_logged_at: int | None
    payload: bytes


class Facts(Struct, frozen=True, tag=True):
    """How the trainer is doing, a few times a second.

    Attributes:
        steps: Steps taken since the last facts.
        new_examples: Examples by outcome (learned, sampled_out, quarantined, duplicate) since the last facts.
        examples: The same in total, earlier runs included: exact, since they are in the checkpoint.
        position: Offset in the log up to which everything is learned.
        log_end: Offset after the log's last record, as far as it is known.
        n_expired: Examples of this run that the broker had deleted before they were read.
        version: Of the weights.
        n_items: Items that can be recommended.
        n_evicted: Items that have left the vocabulary so far.
        stream_time: The stream's clock, ms; None before the first event.
        measure: Totals of the live measure.
        checkpoint_at: When the newest checkpoint was written, seconds since the epoch; None while there is none.
        checkpoint_seconds: What writing took, for each checkpoint since the last facts.
        checkpoint_failures: Checkpoints of this run that could not be written.
        n_returns: Returns to an earlier checkpoint so far.
        on_trial: An earlier checkpoint answers the same events, to tell whether learning has done harm.
        guard_exhausted: There were so many returns of late that there will be no other one for now.
        lag_seconds: How long the oldest example that is not learned has been in the log.
        overload: What has given way to live examples that wait: 0 nothing, 1 larger steps, 2 a sample.
    """

    steps: list[Step]
    new_examples: dict[str, int]
    examples: dict[str, int]
    position: int
    log_end: int
    n_expired: int
    version: int
    n_items: int
    n_evicted: int
    stream_time: int | None
    measure: MeasureTotals
    checkpoint_at: float | None
    checkpoint_seconds: list[float]
    checkpoint_failures: int
    n_returns: int = 0
    on_trial: bool = False
    guard_exhausted: bool = False
    lag_seconds: float = 0.0
    overload: int = 0

    @property
    def lag(self) -> int:
        """Examples in the log that are not learned yet."""
        return max(0, self.log_end - self.position)


class Ended(Struct, frozen=True, tag=True):
    """The last message: the trainer has ended.

    Attributes:
        exit_code: 0 after a stop that was asked for.
        line: Why, in one line; empty after a stop that was asked for.
    """

    exit_code: int
    line: str = ""


Message: TypeAlias = Started | Updated | Facts | Ended
encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
decode = _decoder.decode
