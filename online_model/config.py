"""The settings of the model: one frozen dataclass that checks itself and travels inside checkpoints."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, TypeAlias, get_args

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
ScoreType: TypeAlias = Literal["float32", "bfloat16"]
EncoderName: TypeAlias = Literal["gru", "lstm", "rnn", "transformer", "masked-transformer", "convolution", "attention"]
Ranking: TypeAlias = Literal["network", "gated", "linear", "weighted", "reciprocal-ranks", "voting", "none"]

MAX_RANKED_ITEMS = 1 << 24
"""Ceiling of a vocabulary whose candidates are ranked: counts name an item by this many rows and a generation."""

_CHOICES = {
    "encoder": get_args(EncoderName),
    "ranking": ("network", "gated", "linear", "weighted", "reciprocal-ranks", "voting", "none"),
    "device": ("auto", "cpu", "cuda"),
    "score_dtype": ("float32", "bfloat16"),
}


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """How the recurrent model is built and how it learns; the defaults are those that measured best.

    Attributes:
        encoder: What turns the items of a sitting into the state that items are scored with.
        hidden: Width of item vectors and of the recurrent state.
        window: Items of the current sitting that the state is computed from.
        whole_history: Read the window across sittings instead of from the current one alone.
        repeats: Learn that people stay on the item they are on, as any other item: for lists that do not exclude it.
        batch_size: Examples in one gradient step.
        negatives: Items drawn per step that every target of the step is compared with.
        recent_negatives: Share of them that is drawn from the latest 10,000 targets, the others uniformly.
        learning_rate: Adagrad rate of item vectors and biases.
        dense_learning_rate: Adagrad rate of the encoder.
        row_half_life: Steps touching an item after which a squared gradient counts half in its Adagrad sums; 0: never.
        dense_half_life: The same for the encoder, in steps.
        rate_floor: Adagrad divides a learning rate by ever more; the quotient never falls below this; 0: no floor.
        drift_forget: Share of the Adagrad sums that is dropped when the loss says that the stream changed; 0: no watch.
        score_regularisation: Weight of the squared scores of negatives in BPR-max.
        elu: Slope parameter of the exponential linear unit on scores; 0 leaves scores as they are.
        loss_norm: The summed loss is divided by this, whatever the batch holds, so that small batches make small steps.
        negative_weight: Weight of the term that trains disliked or returned items down.
        birth: Share of the previous item's vector in the first vector of a new item; the rest is random.
        skip: Weight of the last item's vector that is added to the recurrent state.
        init: Random item vectors are uniform in (-init, init).
        max_items: Ceiling of the vocabulary; beyond it the least recently seen items leave.
        admit_after: Sightings after which an item enters the vocabulary.
        probation_share: Share of `max_items` that items seen only once may hold once the vocabulary is full.
        popularity_half_life: Events after which a sighting counts half in what is popular now.
        ranking: How candidates are ordered: by a network that learns online, by weights that it learns for each context
            (gated) or for all (linear), by fixed weights, reciprocal ranks or votes; "none" lists what the recurrent
            model scores highest.
        retrieved: Candidates that the recurrent model proposes.
        candidates: Candidates of one list at most, those of all sources together.
        neighbour_sittings: Latest sittings that are kept to look for like-minded ones; 0 asks none.
        follower_slots: Followers of one item that are counted.
        follower_half_life: Touches of an item after which what followed it counts half; 0 for never.
        ranking_hidden: Width of the ranking network.
        ranking_learning_rate: Adam's rate for it.
        seed: Seed of the one generator that all random numbers come from.
        device: Where weights live; "auto" takes CUDA when there is one.
        score_dtype: Type in which the whole catalogue is multiplied; bfloat16 is faster where the processor has it.
        index_from: Items from which an index finds the candidates of the recurrent model instead of the whole catalogue
            being scored, where there is no GPU; 0: never.
    """

    encoder: EncoderName = "gru"
    hidden: int = 100
    window: int = 20
    whole_history: bool = False
    repeats: bool = False
    batch_size: int = 64
    negatives: int = 2048
    recent_negatives: float = 0.0
    learning_rate: float = 0.08
    dense_learning_rate: float = 0.1
    row_half_life: float = 1_000.0
    dense_half_life: float = 1_000.0
    rate_floor: float = 0.0
    drift_forget: float = 0.0
    score_regularisation: float = 1.5
    elu: float = 1.0
    loss_norm: float = 128.0
    negative_weight: float = 0.1
    birth: float = 0.5
    skip: float = 1.0
    init: float = 0.1
    max_items: int = 500_000
    admit_after: int = 1
    probation_share: float = 0.1
    popularity_half_life: float = 5_000.0
    ranking: Ranking = "network"
    retrieved: int = 50
    candidates: int = 100
    neighbour_sittings: int = 131_072
    follower_slots: int = 64
    follower_half_life: float = 500.0
    ranking_hidden: int = 32
    ranking_learning_rate: float = 0.002
    seed: int = 1
    device: Device = "auto"
    score_dtype: ScoreType = "float32"
    index_from: int = 100_000

    def __post_init__(self) -> None:
        for name in (
            "hidden",
            "window",
            "batch_size",
            "negatives",
            "admit_after",
            "retrieved",
            "follower_slots",
            "ranking_hidden",
        ):
            self._check_integer(name, 1)
        self._check_integer("max_items", 2)
        if self.ranking != "none" and self.max_items > MAX_RANKED_ITEMS:
            self._refuse("max_items", f'at most {MAX_RANKED_ITEMS} where ranking is not "none"')
        self._check_integer("seed", 0)
        self._check_integer("index_from", 0)
        for name in (
            "learning_rate",
            "dense_learning_rate",
            "loss_norm",
            "init",
            "popularity_half_life",
            "ranking_learning_rate",
        ):
            self._check_number(name, above=0.0)
        for name in ("score_regularisation", "elu", "negative_weight", "skip"):
            self._check_number(name, least=0.0)
        for name in ("row_half_life", "dense_half_life", "rate_floor"):
            self._check_number(name, least=0.0)
        self._check_number("follower_half_life", least=0.0)
        self._check_integer("candidates", self.retrieved)
        self._check_integer("neighbour_sittings", 0)
        self._check_number("birth", least=0.0, most=1.0)
        self._check_number("drift_forget", least=0.0, most=1.0)
        self._check_number("recent_negatives", least=0.0, most=1.0)
        self._check_number("probation_share", above=0.0, most=1.0)
        for name in ("whole_history", "repeats"):
            if not isinstance(getattr(self, name), bool):
                self._refuse(name, "true or false")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                self._refuse(name, "one of " + ", ".join(choices))

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> "ModelConfig":
        """Build a configuration from plain values, such as those of a checkpoint's metadata.

        Raises:
            ValueError: A value is out of range, or a name is not that of a setting.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"unknown model settings: {', '.join(unknown)}")
        return cls(**values)  # type: ignore[arg-type]  # __post_init__ checks every value

    def to_mapping(self) -> dict[str, object]:
        """Return the settings as plain JSON values."""
        return asdict(self)

    def _check_integer(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            self._refuse(name, f"an integer of at least {least}")

    def _check_number(
        self, name: str, *, least: float | None = None, above: float | None = None, most: float | None = None
    ) -> None:
        value = getattr(self, name)
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (("at least", least), ("above", above), ("at most", most))
            if bound is not None
        ]
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        fits = fits and (least is None or value >= least) and (above is None or value > above)
        if not fits or (most is not None and value > most):
            self._refuse(name, "a number " + " and ".join(bounds))

    def _refuse(self, name: str, expected: str) -> None:
        raise ValueError(f"{name} must be {expected}, not {getattr(self, name)!r}")
