"""What the worker makes of its trainer's messages."""

from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic

from monitoring.metrics import Metrics
from stream.reporting import report_facts, report_start
from stream.trainer_messages import Ended, Facts, Message, Started, Updated
from stream.workload import Workload


class TrainerEnded(RuntimeError):
    """The trainer has ended, and the worker ends with it."""

    def __init__(self, code: int, line: str) -> None:
        super().__init__(line or "the trainer ended by itself")
        self.code = code


class TrainerNews:
    """Takes messages in the thread of the link to the trainer.

    Attributes:
        learned_at: When the trainer was last seen to go on in its log, on the monotonic clock.

    Args:
        metrics: Where facts are reported.
        workload: Told how far learning is.
        apply: Begins to take an update: its payload, and the Kafka timestamp of the oldest event it is new for.
        applied: Called when that is done: with what went wrong, or None. Any thread.
        ended: Called when the trainer has ended. The link's thread.
    """

    def __init__(
        self,
        metrics: Metrics,
        workload: Workload,
        apply: Callable[[bytes, int | None], Future[None]],
        applied: Callable[[BaseException | None], None],
        ended: Callable[[TrainerEnded], object],
    ) -> None:
        self.learned_at = monotonic()
        self._learned_to = -1
        self._metrics = metrics
        self._workload = workload
        self._apply = apply
        self._applied = applied
        self._ended = ended
        self._totals: dict[str, int] = {}

    def take(self, message: Message) -> None:
        """Take one message."""
        match message:
            case Started():
                self._started(message)
            case Updated():
                self._apply(message.payload, message.oldest_logged_at).add_done_callback(self._tell_applied)
            case Facts():
                self._facts(message)
            case Ended():
                self._ended(TrainerEnded(message.exit_code, message.line))

    def _started(self, message: Started) -> None:
        self._totals.setdefault("returns", message.n_returns)  # those of earlier processes
        if message.live_since is not None:  # none: it knows of no earlier run, or has gone back
            self._workload.resume(message.live_since)
        report_start(self._metrics, message)

    def _facts(self, message: Facts) -> None:
        self._workload.learning_lag = message.lag
        if message.position != self._learned_to:
            self._learned_to, self.learned_at = message.position, monotonic()
        metrics = self._metrics
        self._grown("expired", message.n_expired, lambda n: metrics.count_expired("training-examples", n))
        self._totals.setdefault("evicted", message.n_evicted)  # earlier runs' are in it
        self._grown("evicted", message.n_evicted, metrics.evicted.labels("items").inc)
        self._grown("failures", message.checkpoint_failures, metrics.checkpoint_failures.inc)
        self._grown("returns", message.n_returns, metrics.rollbacks.inc)
        report_facts(metrics, message)

    def _grown(self, name: str, total: int, count: Callable[[int], None]) -> None:
        """Count what was added to a total that the trainer tells."""
        if (added := total - self._totals.get(name, 0)) > 0:
            count(added)
        self._totals[name] = total

    def _tell_applied(self, done: Future[None]) -> None:
        self._applied(None if done.cancelled() else done.exception())
