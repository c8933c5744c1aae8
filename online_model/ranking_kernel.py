"""The ranking network's answers, compiled: what torch computes in a dozen small operations is one.

Lessons go through torch, which knows the gradients; `tests/unit/online_model/test_ranker.py` holds both together.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from online_model.candidates.queries import Floats, Ints


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def network_scores(
    rows: Ints,
    signals: Floats,
    facts: Floats,
    normaliser: tuple[Floats, Floats],
    gates: tuple[Floats, Floats],
    first: tuple[Floats, Floats, Floats],
    second: tuple[Floats, Floats, Floats],
) -> npt.NDArray[np.float32]:
    """Score candidates; -inf beyond the last, float32 [n_queries, n_candidates].

    Args:
        rows: Candidates, -1 beyond the last, int32 [n_queries, n_candidates].
        signals: Theirs, float32 [n_queries, n_candidates, n_signals].
        facts: Of each query, scaled, float32 [n_queries, n_facts].
        normaliser: What the hidden layers see: signals less this mean, times this scale.
        gates: Linear weights of the signals, and what each fact adds to them.
        first: Weights of signals and facts, and bias; of no width where there are no hidden layers.
        second: Weights, bias, and weights of the last layer.
    """
    n_queries, n_candidates = rows.shape
    n_signals, n_facts, width = signals.shape[2], facts.shape[1], len(first[2])
    mean, scale = normaliser
    scores = np.full((n_queries, n_candidates), -np.inf, np.float32)
    weights = np.empty(n_signals, np.float32)
    scaled = np.empty((n_signals, width), np.float32)
    middle = first[2].copy()
    for signal in range(n_signals):
        for unit in range(width):
            scaled[signal, unit] = scale[signal] * first[0][signal, unit]
            middle[unit] -= mean[signal] * scaled[signal, unit]
    bias, lower, upper = np.empty_like(middle), np.empty_like(middle), np.empty_like(middle)
    for query in range(n_queries):
        weights[:] = gates[0]
        bias[:] = middle
        for fact in range(n_facts):
            value = facts[query, fact]
            for signal in range(n_signals):
                weights[signal] += value * gates[1][fact, signal]
            for unit in range(width):
                bias[unit] += value * first[1][fact, unit]
        for column in range(n_candidates):
            if rows[query, column] < 0:
                continue
            score = np.float32(0.0)
            lower[:] = bias
            for signal in range(n_signals):
                value = signals[query, column, signal]
                # Most signals of most candidates are 0.
                if value != 0.0:
                    score += value * weights[signal]
                    for unit in range(width):
                        lower[unit] += value * scaled[signal, unit]
            upper[:] = second[1]
            for below in range(width):
                value = lower[below]
                if value > 0.0:
                    for unit in range(width):
                        upper[unit] += value * second[0][below, unit]
            for unit in range(width):
                score += max(upper[unit], np.float32(0.0)) * second[2][unit]
            scores[query, column] = score
    return scores


@njit(cache=True)
def chances(scores: Floats, facts: Floats, sharpness: float, found: Floats) -> npt.NDArray[np.float32]:
    """Return the chance that each candidate is the next target: its share among them, where it is one of them at all.

    Args:
        scores: -inf for what may not be listed, float32 [n_queries, n_candidates].
        facts: Of each query, scaled, float32 [n_queries, n_facts].
        sharpness: Factor of the scores before the softmax.
        found: Weights of the facts for the chance that the target is among the candidates, and a bias behind them.
    """
    shares = np.zeros(scores.shape, np.float32)
    for query in range(len(scores)):
        logit = found[-1]
        for fact in range(facts.shape[1]):
            logit += facts[query, fact] * found[fact]
        highest, total = scores[query].max(), np.float32(0.0)
        if highest == -np.inf:
            continue
        for column in range(scores.shape[1]):
            shares[query, column] = np.exp((scores[query, column] - highest) * np.float32(sharpness))
            total += shares[query, column]
        chance = np.float32(1.0) / (np.float32(1.0) + np.exp(-logit))
        for column in range(scores.shape[1]):
            shares[query, column] *= chance / total
    return shares
