"""The second stage: a small network over each candidate's signals that learns online which of them to believe."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from online_model.adam import Adam
from online_model.candidates.evidence import Examined
from online_model.candidates.queries import Floats
from online_model.candidates.signals import FACTS, SIGNALS
from online_model.config import ModelConfig
from online_model.forecasts import forecasts
from online_model.fusion import FIXED
from online_model.protocol import Forecasts, ModelDiverged, State
from online_model.ranking_kernel import chances, network_scores

MIN_OUTCOMES = 5_000
"""Outcomes before probabilities mean anything."""

LISTED = 20
"""Places of a list whose probabilities are compared with what happened."""

_FORECAST_EVERY = 4
_SITTING_PLACE = SIGNALS.index("sitting_place")
# Between log(1 + 1), where the latest visit stands, and log(1 + 2), where the one before it does.
_LATEST = 0.9
_FACT_SCALE = 0.2
_LEAST_VARIANCE = 1e-3
_FASTEST_NORMALISER = 0.05
# Finite, for 0 x infinity is no gradient.
_ABSENT = -1e9
_ADAM = "adam."
# Hidden layers of no width.
_NO_FIRST = np.zeros((len(SIGNALS), 0), np.float32), np.zeros((len(FACTS), 0), np.float32), np.zeros(0, np.float32)
_NO_SECOND = np.zeros((0, 0), np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class RankingStep:
    """What one lesson will do to a ranker.

    Attributes:
        loss: Mean loss over the targets that were among their candidates; None where none was.
        gradients: By weight.
        mean: Of each signal over the candidates of this batch.
        variance: As `mean`.
        n_outcomes: Targets, among the candidates or not.
        forecasts: What was stated about them in lists, of some batches; None of the others.
    """

    loss: float | None
    gradients: Mapping[str, Tensor]
    mean: Tensor
    variance: Tensor
    n_outcomes: int
    forecasts: Forecasts | None = None


class _Network(nn.Module):
    """Scores of candidates: a linear part, weights that depend on the query, and two hidden layers.

    It starts as the neural score alone.
    """

    def __init__(self, kind: str, hidden: int, generator: Generator | None) -> None:
        super().__init__()
        n_signals, n_facts = len(SIGNALS), len(FACTS)
        self.linear = nn.Parameter(torch.zeros(n_signals))
        with torch.no_grad():
            self.linear[SIGNALS.index("neural_score")] = 1.0
        # Whether the target is among the candidates, and how sure the scores are: what probabilities need.
        self.found = nn.Parameter(torch.zeros(n_facts + 1))
        self.sharpness = nn.Parameter(torch.zeros(1))
        self.gated, self.deep = kind in ("gated", "network"), kind == "network"
        if self.gated:
            self.gate = nn.Parameter(torch.zeros(n_facts, n_signals))
        if self.deep:
            self.first = nn.Parameter(_drawn((n_signals, hidden), 0.3, generator))
            self.first_facts = nn.Parameter(_drawn((n_facts, hidden), 0.3, generator))
            self.first_bias = nn.Parameter(torch.zeros(hidden))
            self.second = nn.Parameter(_drawn((hidden, hidden), 0.2, generator))
            self.second_bias = nn.Parameter(torch.zeros(hidden))
            self.last = nn.Parameter(torch.zeros(hidden))

    def forward(self, signals: Tensor, facts: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        """Score candidates, float32 [n_queries, n_candidates].

        The hidden layers see the signals less `mean`, times `scale`: both are folded into the first layer's weights.
        """
        weights = self.linear + facts @ self.gate if self.gated else self.linear.expand(len(signals), -1)
        scores = torch.bmm(signals, weights[:, :, None])[:, :, 0]
        if self.deep:
            bias = self.first_bias - (mean * scale) @ self.first
            layer = torch.matmul(signals, scale[:, None] * self.first) + (facts @ self.first_facts + bias)[:, None]
            layer = torch.relu(torch.matmul(torch.relu(layer), self.second) + self.second_bias)
            scores = scores + layer @ self.last
        return scores

    def answers(self, examined: Examined, mean: Tensor, scale: Tensor) -> Floats:
        """Return what `forward` does, -inf beyond the last candidate; in one go, with no gradients to be had."""
        n_signals, n_facts = len(SIGNALS), len(FACTS)
        gate = self.gate.detach().numpy() if self.gated else np.zeros((n_facts, n_signals), np.float32)
        first, second = _NO_FIRST, _NO_SECOND
        if self.deep:
            first = _plain(self.first, self.first_facts, self.first_bias)
            second = _plain(self.second, self.second_bias, self.last)
        return network_scores(
            examined.rows,
            examined.signals,
            _scaled(examined.facts),
            (mean.numpy(), scale.numpy()),
            (self.linear.detach().numpy(), gate),
            first,
            second,
        )

    def chance_found(self, facts: Tensor) -> Tensor:
        """Return the logit of the chance that the target is among the candidates, float32 [n_queries]."""
        logits: Tensor = facts @ self.found[:-1] + self.found[-1]
        return logits


class Ranker:
    """Orders candidates and learns from what people took.

    Attributes:
        learns: Whether its order comes from what people took.
        n_outcomes: Targets that it has learned from.
    """

    def __init__(self, config: ModelConfig, generator: Generator | None = None) -> None:
        """Build a fresh ranker; without a generator its hidden layers are all zeros, to be filled."""
        self._fixed = FIXED.get(config.ranking)
        self.learns = config.ranking in ("network", "gated", "linear")
        self._repeats = config.repeats
        self._norm = float(config.batch_size)
        self._network = _Network(config.ranking, config.ranking_hidden, generator)
        self._adam = Adam(config.ranking_learning_rate, dict(self._network.named_parameters()))
        self._mean = torch.zeros(len(SIGNALS))
        self._variance = torch.ones(len(SIGNALS))
        self._n_batches = 0
        self.n_outcomes = 0

    @torch.no_grad()
    def scores(self, examined: Examined) -> Floats:
        """Score candidates, higher is better, -inf beyond the last, float32 [n_queries, n_candidates]."""
        if self._fixed is None:
            return self._network.answers(examined, self._mean, self._variance.rsqrt())
        scores: Floats = np.where(examined.rows >= 0, self._fixed(examined), np.float32(-np.inf))
        return scores

    @torch.no_grad()
    def probabilities(self, examined: Examined, scores: Floats) -> Floats | None:
        """Return the calibrated chance that each candidate is the next target; None before there are enough outcomes.

        Args:
            examined: The candidates.
            scores: Theirs, -inf for those that may not be listed; float32 [n_queries, n_candidates].
        """
        if self.n_outcomes < MIN_OUTCOMES:
            return None
        network = self._network
        return chances(
            scores, _scaled(examined.facts), math.exp(float(network.sharpness)), network.found.detach().numpy()
        )

    def lesson(self, examined: Examined, places: npt.NDArray[np.int64], weights: Floats) -> RankingStep:
        """Compute what can be learned; changes nothing.

        Args:
            examined: Candidates as they were served, before anything learned from what happened next.
            places: Column of each query's target, -1 where it is not among the candidates, int64 [n_queries].
            weights: Weight of each query, float32 [n_queries].

        Raises:
            ModelDiverged: The loss or a gradient is not finite.
        """
        signals, facts = torch.from_numpy(examined.signals), _facts(examined)
        importance, hits = torch.from_numpy(weights), torch.from_numpy(places >= 0).float()
        # Queries whose target is not among the candidates say nothing about their order.
        lines = np.flatnonzero(places >= 0)
        found_lines, target = torch.from_numpy(lines), torch.from_numpy(places[lines])
        rivals = self._rivals(examined, places)
        there = torch.from_numpy(rivals[lines])
        scores = self._score(signals[found_lines], facts[found_lines]).masked_fill(~there, _ABSENT)
        losses = functional.cross_entropy(scores, target, reduction="none")
        sharp = functional.cross_entropy(scores.detach() * self._network.sharpness.exp(), target, reduction="none")
        chance = functional.binary_cross_entropy_with_logits(
            self._network.chance_found(facts), hits, weight=importance, reduction="sum"
        )
        total = (((losses + sharp) * importance[found_lines]).sum() + chance) / self._norm
        names = dict(self._network.named_parameters())
        found = torch.autograd.grad(total, list(names.values()))
        # Signals beyond the last candidate are 0.
        n_present, every = max(1, int((examined.rows >= 0).sum())), signals.flatten(0, 1)
        mean = every.sum(0) / n_present
        squares = torch.linalg.vector_norm(every, dim=0).square() / n_present
        # What signals look like is learned from all queries, the loss only from those whose target was found.
        if not bool(torch.stack([total.detach(), squares.sum(), *(g.sum() for g in found)]).sum().isfinite()):
            raise ModelDiverged(
                f"ranking loss {float(total.detach())} over {len(places)} queries: "
                "it, a gradient or a signal is not finite"
            )
        return RankingStep(
            float(losses.detach().mean()) if len(lines) else None,
            dict(zip(names, found, strict=True)),
            mean,
            squares - mean * mean,
            len(places),
            self._forecasts(examined, rivals, places),
        )

    def apply(self, step: RankingStep, pace: float = 1.0) -> None:
        """Learn what `lesson` computed: the weights first, then what signals look like.

        The weights move by a share of the usual length.
        """
        self._adam.apply(dict(self._network.named_parameters()), step.gradients, pace)
        share = min(_FASTEST_NORMALISER, 1.0 / (self._n_batches + 1))
        self._mean += share * (step.mean - self._mean)
        self._variance += share * (step.variance + _LEAST_VARIANCE - self._variance)
        self._n_batches += 1
        self.n_outcomes += step.n_outcomes

    def serving_state(self) -> State:
        """Return a copy of what answers depend on."""
        tensors = {name: weight.detach().clone() for name, weight in self._network.named_parameters()}
        tensors |= {"signal_mean": self._mean.clone(), "signal_variance": self._variance.clone()}
        return State(tensors, {"n_outcomes": self.n_outcomes, "n_batches": self._n_batches})

    def load_serving_state(self, state: State) -> None:
        """Answer as the ranker that `state` was taken from.

        Raises:
            ValueError: The state is that of another size of ranker.
        """
        with torch.no_grad():
            for name, weight in self._network.named_parameters():
                if weight.shape != state.tensors[name].shape:
                    raise ValueError(
                        f"the saved ranking network has {name} of {list(state.tensors[name].shape)}, "
                        f"the settings say {list(weight.shape)}"
                    )
                weight.copy_(state.tensors[name])
        self._mean, self._variance = state.tensors["signal_mean"].clone(), state.tensors["signal_variance"].clone()
        self.n_outcomes = int(str(state.metadata["n_outcomes"]))
        self._n_batches = int(str(state.metadata["n_batches"]))

    def state(self) -> State:
        """Return a copy of everything, the optimizer included."""
        state, optimizer = self.serving_state(), self._adam.state()
        state.tensors |= {_ADAM + name: tensor for name, tensor in optimizer.tensors.items()}
        state.metadata["adam"] = optimizer.metadata
        return state

    def load_state(self, state: State) -> None:
        """Become the ranker that `state` was taken from.

        Raises:
            ValueError: The state is that of another size of ranker.
        """
        self.load_serving_state(state)
        facts = state.metadata["adam"]
        if not isinstance(facts, dict):
            raise ValueError("the saved ranking network lacks its optimizer")
        moments = {name.removeprefix(_ADAM): t for name, t in state.tensors.items() if name.startswith(_ADAM)}
        self._adam.load_state(State(moments, facts))

    def _rivals(self, examined: Examined, places: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which candidates each target is compared with, itself among them: not the item that the user is on."""
        there = examined.rows >= 0
        if not self._repeats:
            visited = examined.signals[..., _SITTING_PLACE]
            there &= (visited == 0) | (visited > _LATEST)
            lines = np.flatnonzero(places >= 0)
            there[lines, places[lines]] = True
        return there

    def _forecasts(
        self, examined: Examined, rivals: npt.NDArray[np.bool_], places: npt.NDArray[np.int64]
    ) -> Forecasts | None:
        """What lists of these candidates state about what came next; of some batches, since it costs as an answer."""
        if self._n_batches % _FORECAST_EVERY:
            return None
        scores = np.where(rivals, self.scores(examined), np.float32(-np.inf))
        probabilities = self.probabilities(examined, scores)
        if probabilities is None:
            return None
        listed = np.argsort(-scores, axis=1, kind="stable")[:, :LISTED]
        stated, happened = np.take_along_axis(probabilities, listed, 1), listed == places[:, None]
        there = np.isfinite(np.take_along_axis(scores, listed, 1))
        return forecasts(stated[there], happened[there])

    def _score(self, signals: Tensor, facts: Tensor) -> Tensor:
        scores: Tensor = self._network(signals, facts, self._mean, self._variance.rsqrt())
        return scores


def _facts(examined: Examined) -> Tensor:
    return torch.from_numpy(_scaled(examined.facts))


def _scaled(facts: Floats) -> Floats:
    scaled: Floats = facts * np.float32(_FACT_SCALE)
    return scaled


def _plain(*weights: Tensor) -> tuple[Floats, Floats, Floats]:
    one, other, third = (weight.detach().numpy() for weight in weights)
    return one, other, third


def _drawn(shape: tuple[int, ...], scale: float, generator: Generator | None) -> Tensor:
    return torch.zeros(shape) if generator is None else torch.randn(shape, generator=generator) * scale
