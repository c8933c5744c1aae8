"""Notices from the live loss that the stream has changed."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from river.drift import ADWIN

# Losses that the detector is fed with at most before it starts over with the later half of them: what it has inside can
# then be made again from these, and a checkpoint stays small.
_MOST = 8192


class DriftWatch:
    """Compares the latest losses with those before, over windows whose lengths it finds itself.

    Source: Bifet and Gavalda 2007, Learning from Time-Changing Data with Adaptive Windowing, as in river.
    """

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._detector: ADWIN | None = None

    def observe(self, loss: float) -> bool:
        """Take in the loss of a mini-batch that was not learned yet; return whether losses have grown of late."""
        detector = self._detector = self._detector or _fed(self._losses)
        before = detector.estimation
        self._losses.append(loss)
        detector.update(loss)  # type: ignore[no-untyped-call]  # river has no types
        if detector.drift_detected:
            grew: bool = detector.estimation > before
            self._losses, self._detector = [], None
            return grew
        if len(self._losses) >= _MOST:
            self._losses, self._detector = self._losses[-_MOST // 2 :], None
        return False

    def state(self) -> Tensor:
        """Return what it has seen since it last started over, float64 [n]."""
        return torch.tensor(self._losses, dtype=torch.float64)

    def load_state(self, losses: Tensor) -> None:
        """Become the watch that `losses` were taken from."""
        self._losses, self._detector = losses.tolist(), None


def _fed(losses: list[float]) -> "ADWIN":
    # Only those who ask for a watch wait for river's import.
    from river.drift import ADWIN

    detector = ADWIN()  # type: ignore[no-untyped-call]  # river has no types
    for loss in losses:
        detector.update(loss)  # type: ignore[no-untyped-call]
    return detector
