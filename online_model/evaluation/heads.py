"""Figures for heads that predict a number or a yes: errors, and areas under curves."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def mean_squared_error(predicted: Floats, actual: Floats) -> float:
    """Return the mean of the squared differences.

    Raises:
        ValueError: The sizes differ, there is nothing, or a number is not finite.
    """
    _check(predicted, actual)
    return float(np.mean((np.asarray(predicted, np.float64) - np.asarray(actual, np.float64)) ** 2))


def root_mean_squared_error(predicted: Floats, actual: Floats) -> float:
    """Return the root of `mean_squared_error`, in the unit of what is predicted; raises as it does."""
    return float(np.sqrt(mean_squared_error(predicted, actual)))


def roc_auc(scores: Floats, outcomes: npt.ArrayLike) -> float | None:
    """Return the chance that a positive is scored above a negative, a tie counting half; None without both kinds.

    Raises:
        ValueError: The sizes differ, there is nothing, or a number is not finite.

    >>> roc_auc(np.array([0.1, 0.4, 0.35, 0.8]), [0, 0, 1, 1])
    0.75
    """
    positives, negatives = _counts_by_score(scores, outcomes)
    n_positives, n_negatives = positives.sum(), negatives.sum()
    if n_positives == 0 or n_negatives == 0:
        return None
    # From the best score down: each positive beats the negatives that are still to come.
    beaten = n_negatives - np.cumsum(negatives) + negatives / 2
    return float((positives * beaten).sum() / (n_positives * n_negatives))


def pr_auc(scores: Floats, outcomes: npt.ArrayLike) -> float | None:
    """Return average precision, the area under precision over recall in steps; None without a positive.

    Tied scores are one threshold, so their order does not matter.

    Raises:
        ValueError: The sizes differ, there is nothing, or a number is not finite.

    >>> round(pr_auc(np.array([0.1, 0.4, 0.35, 0.8]), [0, 0, 1, 1]), 4)
    0.8333
    """
    positives, negatives = _counts_by_score(scores, outcomes)
    n_positives = positives.sum()
    if n_positives == 0:
        return None
    found = np.cumsum(positives)
    precision = found / (found + np.cumsum(negatives))
    return float((precision * positives).sum() / n_positives)


def _counts_by_score(
    scores: Floats, outcomes: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Positives and negatives at each distinct score, the best score first."""
    positive = np.asarray(outcomes).astype(np.bool_)
    _check(scores, positive)
    distinct, places = np.unique(scores, return_inverse=True)
    positives = np.bincount(places[positive], minlength=len(distinct)).astype(np.float64)
    negatives = np.bincount(places[~positive], minlength=len(distinct)).astype(np.float64)
    return positives[::-1], negatives[::-1]


def _check(predicted: npt.NDArray[np.floating], actual: npt.NDArray[np.generic]) -> None:
    if predicted.shape != actual.shape or predicted.ndim != 1:
        raise ValueError(f"expected two rows of one length, got shapes {predicted.shape} and {actual.shape}")
    if not len(predicted):
        raise ValueError("expected at least one prediction, got none")
    if not (np.isfinite(predicted).all() and np.isfinite(actual.astype(np.float64)).all()):
        raise ValueError("expected finite numbers alone")
