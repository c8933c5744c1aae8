"""When checkpoints are written, and the thread that writes them: learning waits only while tensors are copied."""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from online_model.checkpoint import CheckpointError, save
from online_model.protocol import State
from stream.positions import NotCommitted
from stream.settings import Settings
from stream.trainer_checkpoints import Cut

logger = logging.getLogger(__name__)

RETRY_SECONDS = 10.0


class _Written(NamedTuple):
    path: Path
    cut: Cut
    seconds: float


class CheckpointWriter:
    """Writes one checkpoint at a time.

    A disk that is full, or a broker that is away, costs a checkpoint and nothing else: earlier ones stay, learning goes
    on, the failure is counted, and another attempt follows.

    Attributes:
        position: Of the newest checkpoint; what stands there need not be written again.
        written_at: When the newest checkpoint was cut, seconds since the epoch; None while there is none.
        n_failures: Attempts that failed.
    """

    def __init__(self, settings: Settings) -> None:
        self.position: int | None = None
        self.written_at: float | None = None
        self.n_failures = 0
        self._folder = settings.checkpoint_dir
        self._keep, self._spaced = settings.trainer.keep_checkpoints, settings.guard.keep_checkpoints
        self._interval = settings.trainer.checkpoint_interval_seconds
        self._due_at = monotonic() + self._interval
        self._seconds: list[float] = []
        self._thread: threading.Thread | None = None
        self._result: _Written | Exception | None = None

    @property
    def busy(self) -> bool:
        """A checkpoint is being written, or its result was not collected yet."""
        return self._thread is not None

    def due(self, position: int | None) -> bool:
        """Return whether one should be started for `position` now."""
        return not self.busy and position != self.position and monotonic() >= self._due_at

    def take_seconds(self) -> list[float]:
        """Return what writing took, for each checkpoint since the last call."""
        seconds, self._seconds = self._seconds, []
        return seconds

    def start(
        self,
        states: Mapping[str, State],
        cut: Cut,
        before_rename: Callable[[], None],
        pinned: frozenset[str] = frozenset(),
    ) -> None:
        """Begin to write; the states now belong to the writer. `before_rename` runs in its thread and may refuse."""
        if self.busy:
            raise RuntimeError("a checkpoint is being written already")
        self._due_at = monotonic() + self._interval
        # A daemon: a disk that hangs must not keep the process from ending.
        self._thread = threading.Thread(
            target=self._write, args=(states, cut, before_rename, pinned), name="checkpoint", daemon=True
        )
        self._thread.start()

    def collect(self, timeout_seconds: float = 0.0) -> Path | None:
        """Take notice of a checkpoint that was written, waiting for it so long; return it.

        Raises:
            Exception: Whatever `before_rename` refused with, except that a broker was away.
        """
        if self._thread is None:
            return None
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            return None
        result, self._thread, self._result = self._result, None, None
        if isinstance(result, _Written):
            self._note(result)
            return result.path
        if isinstance(result, CheckpointError | NotCommitted):
            self.n_failures += 1
            self._due_at = min(self._due_at, monotonic() + RETRY_SECONDS)
            logger.error("checkpoint failed failures=%d %s", self.n_failures, result)
        elif result is not None:
            raise result
        return None

    def _note(self, written: _Written) -> None:
        cut = written.cut
        self.position, self.written_at = cut.position, cut.saved_at
        self._seconds.append(written.seconds)
        logger.info(
            "checkpointed path=%s version=%d position=%s learned=%d seconds=%.2f",
            written.path.name,
            cut.version,
            cut.position,
            cut.learned,
            written.seconds,
        )

    def _write(
        self, states: Mapping[str, State], cut: Cut, before_rename: Callable[[], None], pinned: frozenset[str]
    ) -> None:
        started = monotonic()
        try:
            path = save(
                self._folder,
                states,
                cut.metadata(),
                keep=self._keep,
                spaced=self._spaced,
                pinned=pinned,
                before_rename=before_rename,
            )
            self._result = _Written(path, cut, monotonic() - started)
        except Exception as error:  # raised again in the thread that collects
            self._result = error
