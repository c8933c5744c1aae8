"""What the guard finds and what it takes for harm that is none: a log in memory, and real checkpoints.

Without Kafka, and otherwise what the trainer does: mini-batches, checkpoints at their distances, trials, returns.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from online_model import checkpoint
from online_model.evaluation.sequences import Sequences, Step
from online_model.evaluation.streams import EventFile, StreamEvent
from online_model.lessons import TARGETS
from online_model.protocol import Context, Request
from stream.behaviors import behavior_table
from stream.benchmarks.poisons import POISONED, POISONS
from stream.guarding import Guarding, Sentence
from stream.identity import Identity
from stream.learning import Learning, MiniBatch
from stream.records import TrainingExample, encode_example
from stream.settings import Settings
from stream.trainer_checkpoints import Cut

FROM, TO = 0.5, 0.7
"""Shares of the stream between which it is spoilt."""
LATE = 0.9
"""Share of the stream after which the hit rate is told apart."""
EVERY = 2_000
"""Examples between two checkpoints."""
TOLD_EVERY = 100
_IDENTITY = Identity("none", {})


@dataclass(slots=True)
class GuardResult:
    """What came of one stream.

    Attributes:
        poison: What was done to it.
        examples: In the log.
        poisoned: Those of them that were spoilt.
        poison_from: Log offset of the first of them; of the change, where people changed their taste.
        suspicions: Falls that were noticed.
        trials: Checkpoints that were tried.
        returns: Reason, first and last offset that was left out, and distance in honest examples from the first
            spoilt one to the verdict, of each return.
        left_out: Examples that were not learned.
        left_out_honest: Those of them that were not spoilt.
        hit_rate: Share of honest scored events whose item stood among the first 20, before the poison.
        hit_rate_late: The same in the last tenth.
        exhausted: Whether the guard stood aside at the end.
    """

    poison: str
    examples: int = 0
    poisoned: int = 0
    poison_from: int | None = None
    suspicions: int = 0
    trials: int = 0
    returns: list[dict[str, Any]] = field(default_factory=list)
    left_out: int = 0
    left_out_honest: int = 0
    hit_rate: float = 0.0
    hit_rate_late: float = 0.0
    exhausted: bool = False


def run(
    settings: Settings,
    file: Path,
    n_events: int,
    poison: str,
    folder: Path,
    *,
    key: str = "user_id",
    seed: int = 1,
    on_events: Callable[[int], None] = lambda n_events: None,
) -> GuardResult:
    """Put a stream through a guarded learner.

    Args:
        settings: Of the model, the guard and the measure.
        file: Events.
        n_events: How many of them.
        poison: What is done to them, a name of `POISONS`.
        folder: For checkpoints.
        key: Column that sequences are kept for.
        seed: Of the poison.
        on_events: Told now and then how far it is.
    """
    settings = settings.model_copy(update={"data_dir": folder})
    events = islice(EventFile(file, key=key).read(), n_events)
    spoilt = POISONS[poison](events, round(FROM * n_events), round(TO * n_events), np.random.default_rng(seed))
    course = _Course(settings, _steps(settings, spoilt), GuardResult(poison), round(FROM * n_events))
    return course.run(on_events)


def _steps(settings: Settings, events: Iterator[StreamEvent]) -> Iterator[Step]:
    roles = {name: (behavior.name, behavior.role) for name, behavior in behavior_table(settings.behaviors).items()}
    return Sequences(roles, settings.sequence.sitting_gap_seconds * 1000).follow(events)


class _Course:
    """A trainer without Kafka: the log is a list, and whoever writes it answers with the learner of the moment."""

    def __init__(self, settings: Settings, steps: Iterator[Step], result: GuardResult, change_at: int) -> None:
        self._settings = settings
        self._steps = steps
        self._result = result
        self._change_at = change_at
        self._log: list[bytes] = []
        self._honest: list[bool] = []
        self._hits: list[tuple[int, bool]] = []
        self._position = self._saved = 0
        self._become(None, 0)

    def run(self, on_events: Callable[[int], None]) -> GuardResult:
        """Learn the stream to its end."""
        with _Counting(self._result):
            while self._feed() or self._position < len(self._log):
                self._learn()
                if self._position - self._saved >= EVERY:
                    self._save()
                if (sentence := self._guarding.attend()) is not None:
                    self._return(sentence)
                if self._position // self._settings.model.batch_size % TOLD_EVERY == 0:
                    on_events(self._position)
        return self._summed_up()

    def _feed(self) -> bool:
        """Write the next mini-batch to the log, when all that is in it is learned; return whether there was one."""
        if self._position < len(self._log):
            return True
        steps = list(islice(self._steps, self._settings.model.batch_size))
        scored = [step for step in steps if step.unscored is None]
        requests = [Request(step.example.context, _current(step.example.context)) for step in scored]
        ranks = iter(self._learning.learner.rank(requests, [step.example.item or "" for step in scored]))
        for step in steps:
            honest, rank = step.group != POISONED, next(ranks) if step.unscored is None else 0
            listed = rank if rank <= self._settings.lists.k else 0
            if honest and step.unscored is None:
                self._hits.append((len(self._log), listed > 0))
            self._log.append(encode_example(_record(step, len(self._log), listed)))
            self._honest.append(honest)
        return bool(steps)

    def _learn(self) -> None:
        batch, guard = MiniBatch(), self._learning.guard
        for offset in range(self._position, min(len(self._log), self._position + self._settings.model.batch_size)):
            batch.take(offset, self._log[offset], self._learning.ledger, leave_out=guard.leaves_out(offset))
        self._learning.learn(batch)
        self._position = batch.end or self._position

    def _save(self) -> None:
        guard, ledger = self._learning.guard, self._learning.ledger
        version, learned = self._learning.learner.version, ledger.counts["learned"]
        cut = Cut(self._position, _IDENTITY, "run", version, learned, 0.0, "bench", "bench", guard.n_returns)
        self._write(self._learning.states(), cut)

    def _write(self, states: Any, cut: Cut) -> None:
        checkpoint.save(
            self._settings.checkpoint_dir,
            states,
            cut.metadata(),
            keep=self._settings.trainer.keep_checkpoints,
            spaced=self._settings.guard.keep_checkpoints,
            pinned=self._guarding.pinned,
        )
        self._saved = self._position

    def _return(self, sentence: Sentence) -> None:
        decided, began = sentence.decided, self._poison_from()
        late = None if began is None else sum(self._honest[began : decided.end])
        facts = {"reason": decided.reason, "from": decided.start, "to": decided.end, "honest_until_verdict": late}
        self._result.returns.append(facts)
        self._write(sentence.states, sentence.cut)
        self._become(sentence.states, sentence.cut.position or 0)

    def _become(self, states: Any, position: int) -> None:
        self._learning = Learning(self._settings, "run")
        if states is not None:
            self._learning.load_states(states)
        self._guarding = Guarding(self._settings, _IDENTITY, self._learning)
        self._position = self._saved = position

    def _poison_from(self) -> int | None:
        if self._result.poison == "season":
            return self._change_at
        return None if all(self._honest) else self._honest.index(False)

    def _summed_up(self) -> GuardResult:
        result, guard = self._result, self._learning.guard
        result.examples, result.poisoned = len(self._log), self._honest.count(False)
        result.poison_from = self._poison_from()
        left_out = [offset for offset in range(len(self._log)) if guard.leaves_out(offset)]
        result.left_out, result.left_out_honest = len(left_out), sum(self._honest[offset] for offset in left_out)
        before = self._change_at
        result.hit_rate = _mean([hit for offset, hit in self._hits if before * 0.8 <= offset < before])
        result.hit_rate_late = _mean([hit for offset, hit in self._hits if offset >= LATE * len(self._log)])
        result.exhausted = guard.exhausted
        return result


class _Counting(logging.Handler):
    """Counts what the guard's log lines tell."""

    def __init__(self, result: GuardResult) -> None:
        super().__init__()
        self._result = result
        self._logger = logging.getLogger("stream.guarding")

    def emit(self, record: logging.LogRecord) -> None:
        self._result.suspicions += record.msg.startswith("guard suspects")
        self._result.trials += record.msg.startswith("guard tries")

    def __enter__(self) -> "_Counting":
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)


def _current(context: Context) -> frozenset[str]:
    return frozenset(visit[0] for visit in context.history[-1:])


def _record(step: Step, offset: int, rank: int) -> TrainingExample:
    example, context = step.example, step.example.context
    scored = step.unscored is None
    return TrainingExample(
        topic="log",
        partition=0,
        offset=offset,
        time=context.now,
        logged_at=context.now,
        user=step.key,
        behavior=step.visit[1] if step.visit is not None else "",
        role=example.role,
        history=list(context.history),
        sitting=context.sitting,
        item=example.item,
        scored=scored,
        unscored=None if scored or example.role not in TARGETS else step.unscored,
        rank=rank,
        weight=example.weight,
        value=example.value,
    )


def _mean(hits: list[bool]) -> float:
    return sum(hits) / max(1, len(hits))
