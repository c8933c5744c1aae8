import errno
import json
import os
from pathlib import Path

import pytest
import torch

from online_model import checkpoint
from online_model.checkpoint import CheckpointError, TornCheckpoint
from online_model.learner import OnlineLearner
from online_model.protocol import State


def state(value: float = 1.0) -> State:
    return State({"weights": torch.full((3, 2), value)}, {"name": "größe", "n": 7})


def save(folder: Path, *numbers: int, keep: int = 3) -> list[Path]:
    return [
        checkpoint.save(folder, {"learner": state(n), "copy": state(-n)}, {"offset": n}, keep=keep) for n in numbers
    ]


def test_what_is_saved_is_what_is_loaded(tmp_path):
    (path,) = save(tmp_path / "new" / "folder", 5)
    loaded = checkpoint.load(path)
    assert loaded.metadata == {"offset": 5}
    assert set(loaded.states) == {"learner", "copy"}
    assert loaded.states["learner"].metadata == state().metadata
    assert torch.equal(loaded.states["copy"].tensors["weights"], torch.full((3, 2), -5.0))


def test_the_last_few_are_kept(tmp_path):
    saved = save(tmp_path, 1, 2, 3, 4, 5)
    assert checkpoint.paths(tmp_path) == saved[2:]
    assert checkpoint.newest(tmp_path).checkpoint.path == saved[-1]
    (one,) = save(tmp_path, 6, keep=1)
    assert checkpoint.paths(tmp_path) == [one]


def test_an_empty_or_missing_folder_has_no_checkpoint(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        found = checkpoint.newest(folder)
        assert (found.checkpoint, found.skipped) == (None, [])


def test_a_learner_continues_from_its_checkpoint(tmp_path, config, batches):
    learner = OnlineLearner(config)
    for batch in batches(5):
        learner.learn(batch)
    checkpoint.save(tmp_path, {"learner": learner.state()}, {})
    resumed = OnlineLearner(config)
    resumed.load_state(checkpoint.newest(tmp_path).checkpoint.states["learner"])
    for batch in batches(5, seed=1):
        assert resumed.learn(batch) == learner.learn(batch)


def test_the_newest_whole_one_is_taken_and_the_torn_are_told(tmp_path):
    """Red without the count of bytes, and where a missing file is no torn checkpoint."""
    first, second, third = save(tmp_path, 1, 2, 3)
    (third / "copy.safetensors").unlink()
    data = (second / "learner.safetensors").read_bytes()
    (second / "learner.safetensors").write_bytes(data[:-1])
    found = checkpoint.newest(tmp_path)
    assert found.checkpoint.path == first
    assert [path for path, _ in found.skipped] == [third, second]
    assert "copy.safetensors is missing" in found.skipped[0][1]
    assert f"{len(data) - 1} bytes, the manifest says {len(data)}" in found.skipped[1][1]


def test_a_torn_one_does_not_push_out_a_whole_one(tmp_path):
    """Red where the torn ones count among those kept."""
    first, *others = save(tmp_path, 1, 2, 3)
    for path in others:
        (path / "manifest.json").write_text("{")
    (latest,) = save(tmp_path, 4, keep=2)
    assert checkpoint.paths(tmp_path) == [first, latest]


def test_one_that_is_on_trial_stays(tmp_path):
    """Red where names that are pinned do not count: the guard's trial would end without a verdict."""
    first, *_ = save(tmp_path, 1, 2, 3)
    path = checkpoint.save(tmp_path, {"learner": state()}, {}, keep=1, pinned={first.name})
    assert checkpoint.paths(tmp_path) == [first, path]


def test_what_a_kill_left_aside_is_no_checkpoint_and_goes_with_the_next(tmp_path):
    """Red where what lies there is written over and not thrown away."""
    aside = tmp_path / ".writing"
    aside.mkdir()
    for name in ("learner", "another"):
        (aside / f"{name}.safetensors").write_bytes(b"half")
    assert checkpoint.newest(tmp_path).checkpoint is None
    (path,) = save(tmp_path, 1)
    assert not aside.exists()
    assert sorted(os.listdir(path)) == ["copy.safetensors", "learner.safetensors", "manifest.json"]


def test_a_format_of_the_future_stops_instead_of_going_back(tmp_path):
    """Red where the format is not compared."""
    *_, path = save(tmp_path, 1, 2)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"]
    manifest["format"] = 2
    manifest["sha256"] = checkpoint._manifest_checksum(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="has format 2, this program reads format 1"):
        checkpoint.newest(tmp_path)


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_a_full_disk_leaves_the_earlier_ones_and_says_so(tmp_path, monkeypatch, step):
    """Red where what was half written stays."""
    (earlier,) = save(tmp_path, 1)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if step == "write":
        monkeypatch.setattr(checkpoint, "_write", fail)
    elif step == "fsync":
        monkeypatch.setattr(checkpoint.os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(CheckpointError, match="No space left on device; earlier checkpoints are untouched"):
        save(tmp_path, 2)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == [earlier.name]
    assert checkpoint.newest(tmp_path).checkpoint.path == earlier


def test_a_read_only_folder_is_told(tmp_path, monkeypatch):
    # Tests may run as root, whom no permission stops: the system's answer is given in its place.
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(CheckpointError, match=f"cannot write a checkpoint to {tmp_path}: Permission denied"):
        save(tmp_path, 1)


def test_a_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot write a checkpoint"):
        save(tmp_path / "file", 1)


@pytest.mark.parametrize("name", ["", "Learner", "../escape", "a/b"])
def test_names_are_checked(tmp_path, name):
    """Red where they are not."""
    with pytest.raises(ValueError, match="the name of a state"):
        checkpoint.save(tmp_path, {name: state()}, {})


@pytest.mark.parametrize("facts", [{"x": float("nan")}, {"x": object()}])
def test_metadata_must_be_json(tmp_path, facts):
    with pytest.raises((ValueError, TypeError)):
        checkpoint.save(tmp_path, {"learner": state()}, facts)
    assert os.listdir(tmp_path) == []


def test_a_caller_may_prevent_it_at_the_last_moment(tmp_path):
    """Red where what it has prevented stays on the disk."""

    def refuse() -> None:
        raise RuntimeError("fenced")

    with pytest.raises(RuntimeError, match="fenced"):
        checkpoint.save(tmp_path, {"learner": state()}, {}, before_rename=refuse)
    assert os.listdir(tmp_path) == []


def test_every_file_and_folder_is_synced_before_it_counts(tmp_path, monkeypatch):
    """Red without any one of the three: of the files, of the folder aside, of the folder of all."""
    events: list[str] = []
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(
        checkpoint.os,
        "fsync",
        lambda fd: (events.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))), fsync(fd)),
    )
    monkeypatch.setattr(Path, "rename", lambda self, to: (events.append("rename"), rename(self, to))[1])
    save(tmp_path, 1)
    assert events == [
        "learner.safetensors",
        "copy.safetensors",
        "manifest.json",
        ".writing",
        "rename",
        tmp_path.name,
    ]


def test_a_torn_checkpoint_is_an_error_when_asked_for_by_name(tmp_path):
    with pytest.raises(TornCheckpoint, match=r"manifest.json is missing"):
        checkpoint.load(tmp_path)
