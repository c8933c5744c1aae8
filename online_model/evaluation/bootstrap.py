"""How sure a difference between two models is: a paired bootstrap that resamples users, not events.

A user's events hang together, so to resample events alone would make intervals too narrow.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

N_RESAMPLES = 1_000
_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference of means over events, and the interval that holds it with 95% confidence."""

    difference: float
    low: float
    high: float


def paired_bootstrap(
    users: npt.NDArray[np.integer],
    differences: npt.NDArray[np.floating],
    *,
    seed: int = 1,
    n_resamples: int = N_RESAMPLES,
) -> list[Interval]:
    """Return the mean of each column of differences with its interval: percentiles over resampled users.

    Each resample draws as many users as there are, with replacement; its mean is over all events of the drawn ones.
    All columns share the resamples.

    Args:
        users: Who each event belongs to, int [n_events].
        differences: One model's figure less the other's on the same event, float [n_events, n_columns].
        seed: Of the resamples.
        n_resamples: How many.

    Raises:
        ValueError: There are no events.

    >>> paired_bootstrap(np.array([7, 7, 9]), np.full((3, 1), 0.25))
    [Interval(difference=0.25, low=0.25, high=0.25)]
    """
    if not len(users):
        raise ValueError("a bootstrap needs at least one event")
    distinct, codes = np.unique(users, return_inverse=True)
    n_users = len(distinct)
    # A mean over a user's events needs no more of them than their sums.
    columns = [np.bincount(codes, column, n_users) for column in np.asarray(differences, np.float64).T]
    sums = np.stack([*columns, np.bincount(codes, minlength=n_users)], axis=1)
    generator = np.random.default_rng(seed)
    totals = np.empty((n_resamples, sums.shape[1]))
    for resample in range(n_resamples):
        drawn = np.bincount(generator.integers(0, n_users, n_users), minlength=n_users)
        totals[resample] = drawn @ sums
    means = totals[:, :-1] / totals[:, -1:]
    edges = np.quantile(means, [(1 - _SHARE) / 2, (1 + _SHARE) / 2], axis=0)
    overall = sums[:, :-1].sum(axis=0) / len(users)
    return [Interval(float(mean), float(low), float(high)) for mean, low, high in zip(overall, *edges, strict=True)]
