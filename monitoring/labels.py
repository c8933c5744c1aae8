"""The fixed sets that metric labels take their values from; never a user, an item or a topic's configured name.

Those of the live measure are its own, in `online_model.evaluation.tally`.
"""

from typing import Literal, TypeAlias, get_args

from online_model.protocol import FORECAST_BOUNDS

Outcome: TypeAlias = Literal["accepted", "rejected", "duplicate", "replayed", "rekeyed"]
"""What became of a record on the events topic."""

RejectReason: TypeAlias = Literal[
    "null-value",
    "not-json",
    "schema",
    "too-large",
    "looks-like-seconds",
    "no-offset",
    "unknown-behavior",
    "too-late",
    "from-the-future",
]
"""Why an event went to `rejected-events`."""

Stage: TypeAlias = Literal[
    "decode", "score", "encode", "publish", "transaction", "recover", "learn", "snapshot", "checkpoint"
]

TopicRole: TypeAlias = Literal[
    "user-events", "training-examples", "model-updates", "item-catalog", "user-profiles", "erasure-requests"
]
"""What a topic is for, whatever it is called in the settings."""

ExampleOutcome: TypeAlias = Literal["learned", "sampled_out", "quarantined", "duplicate"]
RefusalReason: TypeAlias = Literal["non-finite", "lineage", "gap", "stale", "size"]
"""Why a serving copy would not take an update; as in `online_model.serving.UpdateRefused`."""

Evicted: TypeAlias = Literal["users", "items"]

Overloaded: TypeAlias = Literal["answers", "learning"]
"""What may be behind live events."""

PROBABILITY_BINS = tuple(f"{bound:g}" for bound in FORECAST_BOUNDS)
"""Bins of stated probabilities, by their upper bounds."""

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
REJECT_REASONS: tuple[RejectReason, ...] = get_args(RejectReason)
STAGES: tuple[Stage, ...] = get_args(Stage)
TOPIC_ROLES: tuple[TopicRole, ...] = get_args(TopicRole)
EXAMPLE_OUTCOMES: tuple[ExampleOutcome, ...] = get_args(ExampleOutcome)
REFUSAL_REASONS: tuple[RefusalReason, ...] = get_args(RefusalReason)
EVICTED: tuple[Evicted, ...] = get_args(Evicted)
OVERLOADED: tuple[Overloaded, ...] = get_args(Overloaded)
