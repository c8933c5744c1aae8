"""The trainer's checkpoints: one atomic cut of all that it learned and of where it stands in the log."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from online_model import checkpoint
from online_model.protocol import State
from stream.identity import Identity
from stream.settings import Settings
from stream.trainer_errors import TrainerRefused
from stream.trainer_lock import trainer_lock

logger = logging.getLogger(__name__)

_LEARNER = "learner"
"""Name of the state that is served, in a checkpoint that `stream.learning` has filled."""


class Cut(Struct, frozen=True):
    """What stands in a checkpoint's manifest beside the states.

    Attributes:
        position: Offset of the next example in the log; None for the log's start, wherever that is.
        identity: Cluster and topics that positions and ledger belong to; None after `millstream reset --offsets`.
        lineage: The run that wrote it.
        version: Of the weights.
        learned: Examples learned.
        saved_at: Seconds since the epoch.
        app_id: Of the application.
        instance: Of the worker.
        n_returns: Returns to an earlier checkpoint that lie behind it.
        live_since: What Kafka received from then on was live, ms; None while a backlog was being worked off.
    """

    position: int | None
    identity: Identity | None
    lineage: str
    version: int
    learned: int
    saved_at: float
    app_id: str
    instance: str
    n_returns: int = 0
    live_since: int | None = None

    def metadata(self) -> dict[str, object]:
        """Return it as JSON values."""
        values: dict[str, object] = json.loads(msgspec.json.encode(self))
        return values

    @classmethod
    def of(cls, metadata: Mapping[str, object]) -> "Cut":
        """Read what `metadata` returned.

        Raises:
            ValueError: Something is missing or of another type.
        """
        return msgspec.convert(metadata, cls)


class Found(NamedTuple):
    """A checkpoint that was found."""

    path: Path
    states: Mapping[str, State]
    cut: Cut


class Earlier(NamedTuple):
    """A checkpoint that may be gone back to; its states are not read."""

    path: Path
    cut: Cut


def earlier(folder: Path, identity: Identity, references: Mapping[int, str]) -> list[Earlier]:
    """Return the checkpoints that led to the model of now, newest first; not those of ways that were left.

    Args:
        folder: Where checkpoints live.
        identity: Of the cluster and its topics; checkpoints of others, or without a position, are left out.
        references: Number of each return so far, from 1, and the name of the checkpoint that it went back to.
    """
    found: list[Earlier] = []
    for path in reversed(checkpoint.paths(folder)):
        try:
            cut = Cut.of(checkpoint.facts(path))
        except (checkpoint.CheckpointError, ValueError) as error:
            logger.warning("checkpoint path=%s cannot be gone back to: %s", path, error)
            continue
        left = any(number > cut.n_returns and path.name > name for number, name in references.items())
        if cut.identity == identity and cut.position is not None and not left:
            found.append(Earlier(path, cut))
    return found


def load_newest(settings: Settings, identity: Identity) -> Found | None:
    """Read the newest whole checkpoint; None where there is none.

    Raises:
        TrainerRefused: It cannot be used here: it belongs to another cluster, topic or program.
    """
    folder = settings.checkpoint_dir
    found = _newest(folder)
    if found is None:
        return None
    if found.cut.app_id != settings.app_id:
        raise TrainerRefused(
            f"the checkpoints in {folder} are those of application {found.cut.app_id}, this one is {settings.app_id}: "
            "give each a data folder of its own with MILLSTREAM_DATA_DIR"
        )
    difference = None if found.cut.identity is None else identity.difference(found.cut.identity)
    if difference is not None:
        raise TrainerRefused(
            f"the checkpoint {found.path} belongs elsewhere: {difference}; "
            "`millstream reset --offsets` keeps users and weights and starts from what is there"
        )
    return found


def forget_position(settings: Settings, instance_id: str, now: float) -> bool:
    """Write a checkpoint like the newest one that belongs to no cluster and stands at the log's start.

    The weights stay, and so does the ledger: its marks carry the tags of the topics they were made for, so a topic made
    anew is read from its first event, and examples of the old one are not learned twice. What the guard remembers are
    offsets of the old log, which mean others in the new one: it begins anew.

    Returns:
        Whether there was a checkpoint.

    Raises:
        TrainerError: A trainer works in the folder.
        TrainerRefused: The newest checkpoint cannot be read.
        CheckpointError: The new one cannot be written.
    """
    with trainer_lock(settings.checkpoint_dir, instance_id, patience_seconds=0):
        found = _newest(settings.checkpoint_dir)
        if found is None:
            return False
        changes = {"position": None, "identity": None, "saved_at": now, "instance": instance_id, "n_returns": 0}
        cut = msgspec.structs.replace(found.cut, **changes)
        states = {name: state for name, state in found.states.items() if name != "guard"}
        keep, spaced = settings.trainer.keep_checkpoints, settings.guard.keep_checkpoints
        checkpoint.save(settings.checkpoint_dir, states, cut.metadata(), keep=keep, spaced=spaced)
        return True


def _refuse_broken(found: checkpoint.Checkpoint) -> None:
    """Pass over weights that must not be served: each start from them would end at once, for ever."""
    for name, state in found.states.items():
        for part, tensor in state.tensors.items():
            if name == _LEARNER and tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise checkpoint.TornCheckpoint(f"{name}.{part} holds numbers that are not finite")


def _newest(folder: Path) -> Found | None:
    try:
        newest = checkpoint.newest(folder, _refuse_broken)
        for path, why in newest.skipped:
            logger.error("checkpoint path=%s is not whole and is passed over: %s", path, why)
        if newest.checkpoint is None:
            if newest.skipped:
                logger.error("no whole checkpoint in %s: learning begins anew at the start of the log", folder)
            return None
        return Found(newest.checkpoint.path, newest.checkpoint.states, Cut.of(newest.checkpoint.metadata))
    except (checkpoint.CheckpointError, ValueError) as error:
        raise TrainerRefused(f"the newest checkpoint in {folder} cannot be used: {error}") from error
