"""Checkpoints: folders of safetensors files and a manifest that are there whole or not at all.

A checkpoint is written aside, every file and folder is synced, and one rename makes it real; `newest` reads back with
checksums and passes over what is torn. One process writes to a folder at a time (the trainer holds a lock on it).
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from online_model.protocol import State
from online_model.tensor_bytes import decode, encode

FORMAT = 1

_MANIFEST = "manifest.json"
_ASIDE = ".writing"
_FOLDER = re.compile(r"checkpoint-(\d{12})")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read; earlier ones are as they were."""


class TornCheckpoint(CheckpointError):
    """A checkpoint is there but not whole: a file is missing, cut short or changed."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint, verified and read.

    Attributes:
        path: Its folder.
        states: What was saved, by name.
        metadata: What else was saved with it, plain JSON values.
    """

    path: Path
    states: Mapping[str, State]
    metadata: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest whole checkpoint of a folder, if there is one.

    Attributes:
        checkpoint: None where no whole one was found.
        skipped: Newer ones that are torn, newest first, with the reason.
    """

    checkpoint: Checkpoint | None
    skipped: list[tuple[Path, str]]


def save(
    folder: Path,
    states: Mapping[str, State],
    metadata: Mapping[str, object],
    *,
    keep: int = 3,
    spaced: int = 0,
    pinned: AbstractSet[str] = frozenset(),
    before_rename: Callable[[], None] | None = None,
) -> Path:
    """Write a checkpoint and remove all but the last few.

    Args:
        folder: Where checkpoints live; made when missing.
        states: What to save, by name (small letters, digits, `_` and `-`).
        metadata: What else belongs to the same cut, plain JSON values.
        keep: How many checkpoints stay, this one included.
        spaced: How many older ones stay besides, at growing distances; see `retained`.
        pinned: Names of others that stay.
        before_rename: Called when all is written and nothing is real yet; what it raises leaves no checkpoint.

    Returns:
        The checkpoint's own folder.

    Raises:
        CheckpointError: The disk is full, the folder cannot be written, ...; earlier checkpoints are as they were.
        ValueError: A name does not fit, or metadata is no JSON.
    """
    for name in states:
        if not _NAME.fullmatch(name):
            raise ValueError(f"the name of a state must match {_NAME.pattern}, not {name!r}")
    if keep < 1:
        raise ValueError(f"keep must be at least 1, not {keep}")
    aside = folder / _ASIDE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _discard(aside)
        aside.mkdir()
        _write_all(aside, states, metadata)
        numbers = [_number(path) for path in paths(folder)]
        path = folder / f"checkpoint-{max(numbers, default=0) + 1:012d}"
        if before_rename is not None:
            before_rename()
        aside.rename(path)
        _sync(folder)
    except OSError as error:
        _discard(aside)
        raise CheckpointError(
            f"cannot write a checkpoint to {folder}: {error.strerror or error}; earlier checkpoints are untouched"
        ) from error
    except BaseException:
        _discard(aside)
        raise
    _prune(folder, keep, spaced, pinned)
    return path


def load(path: Path) -> Checkpoint:
    """Read a checkpoint and verify all of it.

    Raises:
        TornCheckpoint: It is not whole; the message says which file is wrong and how.
        CheckpointError: It was written in a format that this program does not know.
    """
    manifest = _read_manifest(path)
    files = manifest["files"]
    if not isinstance(files, dict):
        raise TornCheckpoint(f"{path / _MANIFEST}: no list of files")
    states = {}
    for name, facts in files.items():
        data = _read(path / f"{name}.safetensors")
        if len(data) != facts["bytes"]:
            raise TornCheckpoint(f"{name}.safetensors has {len(data)} bytes, the manifest says {facts['bytes']}")
        if _checksum(data) != facts["sha256"]:
            raise TornCheckpoint(f"{name}.safetensors has another checksum than the manifest says")
        try:
            states[name] = State(*decode(data))
        except ValueError as error:
            raise TornCheckpoint(f"{name}.safetensors: {error}") from error
    metadata = manifest["metadata"]
    return Checkpoint(path, states, metadata if isinstance(metadata, dict) else {})


def newest(folder: Path, verify: Callable[[Checkpoint], None] | None = None) -> Newest:
    """Find, verify and read the newest whole checkpoint of a folder.

    Args:
        folder: Where checkpoints live; it need not be there.
        verify: Raises `TornCheckpoint` for one that is whole and yet good for nothing: it is passed over too.

    Raises:
        CheckpointError: The newest whole one was written in a format that this program does not know: to go on from an
            older one would silently unlearn what came after it.
    """
    skipped: list[tuple[Path, str]] = []
    for path in reversed(paths(folder)):
        try:
            found = load(path)
            if verify is not None:
                verify(found)
            return Newest(found, skipped)
        except TornCheckpoint as error:
            skipped.append((path, str(error)))
    return Newest(None, skipped)


def paths(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, whole or not, oldest first; none where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _FOLDER.fullmatch(path.name)), key=_number)


def _write_all(aside: Path, states: Mapping[str, State], metadata: Mapping[str, object]) -> None:
    files = {}
    for name, state in states.items():
        data = encode(state.tensors, state.metadata)
        _write(aside / f"{name}.safetensors", data)
        files[name] = {"bytes": len(data), "sha256": _checksum(data)}
    manifest: dict[str, object] = {"format": FORMAT, "files": files, "metadata": dict(metadata)}
    _write(aside / _MANIFEST, json.dumps(manifest | {"sha256": _manifest_checksum(manifest)}, indent=1).encode())
    _sync(aside)


def _read_manifest(path: Path) -> dict[str, object]:
    data = _read(path / _MANIFEST)
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise TornCheckpoint(f"{_MANIFEST} is no JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.pop("sha256", None) != _manifest_checksum(manifest):
        raise TornCheckpoint(f"{_MANIFEST} has another checksum than it says")
    if manifest["format"] != FORMAT:
        raise CheckpointError(f"{path} has format {manifest['format']}, this program reads format {FORMAT}")
    return manifest


def _manifest_checksum(manifest: Mapping[str, object]) -> str:
    return _checksum(json.dumps(manifest, sort_keys=True, allow_nan=False).encode())


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise TornCheckpoint(f"{path.name} is missing") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def retained(numbers: Sequence[int], keep: int, spaced: int) -> set[int]:
    """Return which of some checkpoints stay.

    The latest, and of the multiples of 8, of 64, of 512, ... the last two each: of a kind, one is then always between
    one and two distances old, however long the trainer has been running.

    Args:
        numbers: Of the checkpoints, ascending.
        keep: How many of the latest.
        spaced: How many others at the most.

    >>> sorted(retained(range(1, 151), 3, 4))
    [64, 128, 136, 144, 148, 149, 150]
    """
    kept = set(numbers[-keep:])
    for place in range(spaced):
        step = 8 ** (1 + place // 2)
        kept.update([number for number in numbers if number % step == 0][-1 - place % 2 :])
    return kept


def facts(path: Path) -> dict[str, object]:
    """Return what was saved with a checkpoint, without reading its states.

    Raises:
        TornCheckpoint: Its manifest is not whole.
        CheckpointError: It was written in a format that this program does not know.
    """
    metadata = _read_manifest(path)["metadata"]
    return metadata if isinstance(metadata, dict) else {}


def _prune(folder: Path, keep: int, spaced: int, pinned: AbstractSet[str]) -> None:
    # What is plainly torn does not count among those kept, or bad luck could push out the last good one.
    whole = [_number(path) for path in paths(folder) if _looks_whole(path)]
    kept = retained(whole, keep, spaced)
    for path in paths(folder):
        if _number(path) not in kept and path.name not in pinned:
            _discard(path)


def _looks_whole(path: Path) -> bool:
    try:
        files = _read_manifest(path)["files"]
        return isinstance(files, dict) and all(
            (path / f"{name}.safetensors").stat().st_size == facts["bytes"] for name, facts in files.items()
        )
    except (CheckpointError, OSError):
        return False


def _discard(path: Path) -> None:
    # Only tidying: a folder that cannot be removed is no reason to lose the checkpoint beside it.
    shutil.rmtree(path, ignore_errors=True)


def _number(path: Path) -> int:
    return int(path.name.removeprefix("checkpoint-"))
