"""Carries out what the guard decides: finds the checkpoint to compare with, and makes the one to go on from. No Kafka.

A return is one checkpoint, written like any other: the states of the earlier one, and the memory of what is left out.
Before it is renamed nothing has happened; after it everything has.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from online_model import checkpoint
from online_model.guard import Return
from online_model.learner import OnlineLearner
from online_model.protocol import State
from stream.identity import Identity
from stream.learning import Learning
from stream.settings import Settings
from stream.trainer_checkpoints import Cut, Earlier, earlier

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A return that is decided and not yet carried out.

    Attributes:
        decided: What is left out, and why.
        states: What the new checkpoint holds.
        cut: What else it says; its position is that of the earlier one.
    """

    decided: Return
    states: Mapping[str, State]
    cut: Cut


class Guarding:
    """Stands between the guard of a `Learning` and the folder of checkpoints; one thread.

    Args:
        settings: Of the worker.
        identity: Of the cluster and its topics: a checkpoint of others is none to go back to.
        learning: Whose guard it is.
    """

    def __init__(self, settings: Settings, identity: Identity, learning: Learning) -> None:
        self._settings = settings
        self._identity = identity
        self._learning = learning
        self._enabled = settings.guard.enabled

    @property
    def pinned(self) -> frozenset[str]:
        """Names of checkpoints that must stay, since they are on trial."""
        trial = self._learning.guard.trial
        return frozenset() if trial is None else frozenset({trial.reference})

    def resume(self) -> None:
        """After a start: go on with the trial that the checkpoint was cut in."""
        trial = self._learning.guard.trial
        if trial is None:
            return
        if self._enabled and self._compare_with(self._settings.checkpoint_dir / trial.reference):
            logger.info("guard resumed trial reference=%s", trial.reference)
        else:
            self._learning.guard.dismiss()

    def attend(self) -> Sentence | None:
        """Open a trial where there is a suspicion, end one that is decided; return what to go back to.

        No checkpoint may be being written: the one that is chosen here could be removed.
        """
        guard = self._learning.guard
        if not self._enabled:
            return None
        if guard.suspicion is not None:
            self._answer()
        verdict = "open" if guard.trial is None else guard.trial.verdict(guard.position)
        if verdict == "harmless":
            logger.info("guard verdict=harmless %s", _told(guard.trial))
            self._drop()
        return self._sentence(guard.sentence()) if verdict == "harmful" else None

    def escape(self, start: int, end: int) -> Sentence | None:
        """Return what to go back to from weights that are broken; None where there is no way back.

        Args:
            start: Log offset up to which weights were told, and finite.
            end: Log offset after what broke them.
        """
        guard = self._learning.guard
        found = self._newest_before(start)
        if not self._enabled or guard.exhausted or found is None or end <= start:
            return None
        return self._sentence(guard.escape(found.path.name, start, end))

    def _answer(self) -> None:
        guard = self._learning.guard
        suspicion = guard.suspicion
        assert suspicion is not None
        found = self._oldest() if suspicion.since is None else self._newest_before(suspicion.since)
        logger.warning("guard suspects reason=%s since=%s", suspicion.reason, suspicion.since)
        if found is None or found.cut.position is None or not self._compare_with(found.path):
            logger.warning("guard has no earlier checkpoint to compare with: learning goes on")
            guard.dismiss()
            return
        guard.open_trial(found.path.name, found.cut.position)
        logger.warning("guard tries reference=%s position=%d", found.path.name, found.cut.position)

    def _compare_with(self, path: Path) -> bool:
        try:
            reference = OnlineLearner(self._learning.learner.config)
            reference.load_state(checkpoint.load(path).states["learner"])
        except (checkpoint.CheckpointError, KeyError, ValueError) as error:
            logger.error("guard cannot use checkpoint path=%s: %s", path, error)
            return False
        self._learning.reference = reference
        return True

    def _drop(self) -> None:
        self._learning.guard.dismiss()
        self._learning.reference = None

    def _sentence(self, decided: Return) -> Sentence | None:
        path = self._settings.checkpoint_dir / decided.reference
        try:
            found = checkpoint.load(path)
            cut = Cut.of(found.metadata)
        except (checkpoint.CheckpointError, ValueError) as error:
            logger.error("guard cannot go back to checkpoint path=%s: %s", path, error)
            self._drop()
            return None
        guard = self._learning.guard
        logger.error(
            "guard verdict=harmful reason=%s reference=%s leaves_out=%d..%d smaller_steps_until=%d %s",
            decided.reason,
            decided.reference,
            decided.start,
            decided.end,
            decided.until,
            _told(guard.trial),
        )
        states = {**found.states, "guard": guard.after(decided, found.states.get("guard", State()))}
        return Sentence(decided, states, msgspec.structs.replace(cut, n_returns=guard.n_returns + 1))

    def _newest_before(self, offset: int) -> Earlier | None:
        fitting = (each for each in self._earlier() if each.cut.position is not None and each.cut.position <= offset)
        return next(fitting, None)

    def _oldest(self) -> Earlier | None:
        return next(reversed(self._earlier()), None)

    def _earlier(self) -> list[Earlier]:
        guard = self._learning.guard
        first = guard.n_returns - len(guard.returns) + 1
        references = {number: past.reference for number, past in enumerate(guard.returns, first)}
        return earlier(self._settings.checkpoint_dir, self._identity, references)


def _told(trial: object) -> str:
    if trial is None:
        return ""
    names = ("both", "live_only", "other_only", "opened")
    return " ".join(f"{name}={getattr(trial, name)}" for name in names)
