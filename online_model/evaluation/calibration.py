"""Whether what is called probable happens as often as it is said to."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

N_BINS = 15
# Beyond it a single certain and wrong statement would be an infinite loss.
_LEAST = 1e-7


@dataclass(frozen=True, slots=True)
class Calibration:
    """How good probabilities were.

    Attributes:
        stated: How many there were.
        brier: Mean squared difference to what happened, 1 or 0.
        brier_of_share: That of stating the share of what happened every time: what knows nothing scores.
        log_loss: Mean negative logarithm of the probability given to what happened, held within 1e-7 of 0 and 1.
        calibration_error: Mean difference, without its sign, of mean probability and share that happened, over bins.
        predicted: Mean probability in each bin, ascending: `N_BINS` bins that hold the same number of statements.
        happened: Share that happened in each bin.
        sizes: Statements in each bin; they differ by one at most.
    """

    stated: int
    brier: float
    brier_of_share: float
    log_loss: float
    calibration_error: float
    predicted: list[float]
    happened: list[float]
    sizes: list[int]


def calibration(probabilities: npt.NDArray[np.floating], outcomes: npt.NDArray[np.bool_]) -> Calibration | None:
    """Compare probabilities with what happened; None where there are none.

    Raises:
        ValueError: The sizes differ, or a probability lies outside 0 to 1.
    """
    if probabilities.shape != outcomes.shape:
        raise ValueError(f"expected as many outcomes as probabilities, got {outcomes.shape}, {probabilities.shape}")
    if not len(probabilities):
        return None
    stated = np.asarray(probabilities, np.float64)
    if not ((stated >= 0) & (stated <= 1)).all():
        raise ValueError("expected probabilities within 0 to 1")
    actual = outcomes.astype(np.float64)
    share = float(actual.mean())
    held = np.clip(stated, _LEAST, 1 - _LEAST)
    # Equal probabilities keep the order of the stream, which their bins do not depend on.
    order = np.argsort(stated, kind="stable")
    bins = [part for part in np.array_split(order, N_BINS) if len(part)]
    predicted = [float(stated[part].mean()) for part in bins]
    happened = [float(actual[part].mean()) for part in bins]
    sizes = [len(part) for part in bins]
    gaps = [size * abs(said - came) for size, said, came in zip(sizes, predicted, happened, strict=True)]
    return Calibration(
        len(stated),
        float(((stated - actual) ** 2).mean()),
        share * (1 - share),
        float(-np.where(outcomes, np.log(held), np.log1p(-held)).mean()),
        sum(gaps) / len(stated),
        predicted,
        happened,
        sizes,
    )
