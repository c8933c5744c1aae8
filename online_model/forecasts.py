"""Sums of stated probabilities and of what happened: what a running Brier score and calibration error are made of."""

import numpy as np
import numpy.typing as npt

from online_model.protocol import FORECAST_BOUNDS, Forecasts


def forecasts(probabilities: npt.NDArray[np.float32], happened: npt.NDArray[np.bool_]) -> Forecasts:
    """Sum up.

    Args:
        probabilities: Of items in lists, float32 [n].
        happened: Whether each came next, bool [n].

    >>> forecasts(np.array([0.002, 0.5, 0.01], np.float32), np.array([False, True, False])).stated
    [1, 1, 0, 0, 1, 0]
    """
    n_bins, stated = len(FORECAST_BOUNDS), probabilities.astype(np.float64)
    bins = np.searchsorted(np.array(FORECAST_BOUNDS, np.float32), probabilities).clip(max=n_bins - 1)
    return Forecasts(
        np.bincount(bins, minlength=n_bins).tolist(),
        np.bincount(bins, stated, n_bins).tolist(),
        np.bincount(bins[happened], minlength=n_bins).tolist(),
        float(((stated - happened) ** 2).sum()),
    )
