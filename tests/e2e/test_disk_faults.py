"""Disks that are full or closed while a checkpoint is written, and checkpoints that came to harm."""

import re
import resource
import shutil
import signal

import pytest
import torch

from online_model import checkpoint
from online_model.protocol import State
from tests.e2e.checker import check
from tests.e2e.visits import events
from tests.e2e.workers import eventually

SMALL_FILE = 64 * 1024


def failures(worker):
    return len(re.findall("checkpoint failed", worker.output))


def test_a_full_disk_and_a_closed_folder_cost_checkpoints_and_nothing_else(application):
    """A write that is cut short by the system, then a folder that takes nothing; the worker answers and learns on."""
    worker = application.start(faults=[("permissions", 0, 0)]).until_ready()
    application.produce(events(100))
    application.until_done()
    application.until_learned()
    folder = application.data_dir() / "checkpoints"
    kept = checkpoint.paths(folder)

    before = failures(worker)
    _, hard = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (SMALL_FILE, resource.RLIM_INFINITY))
    application.produce(events(100, seed=2))
    eventually(lambda: failures(worker) > before, lambda: f"a checkpoint that does not fit:\n{worker.output}")
    application.until_done()
    assert checkpoint.paths(folder) == kept
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (hard, hard))
    application.until_learned()

    kept, before = checkpoint.paths(folder), failures(worker)
    folder.chmod(0o500)
    application.produce(events(100, seed=3))
    eventually(lambda: failures(worker) > before, lambda: f"a checkpoint that is refused:\n{worker.output}")
    application.until_done()
    assert checkpoint.paths(folder) == kept
    folder.chmod(0o700)
    application.until_learned()
    assert "File too large; earlier checkpoints are untouched" in worker.output
    assert "Permission denied; earlier checkpoints are untouched" in worker.output
    assert worker.stop() == 0
    check(application)


def cut(path):
    victim = path / "learner.safetensors"
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])


def flip(path):
    victim = path / "ledger.safetensors"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 16
    victim.write_bytes(bytes(content))


def tear(path):
    (path / "manifest.json").unlink()


def break_numbers(path):
    """Write it anew with a weight that is no number: its checksums are right, and its weights must not be served."""
    found = checkpoint.load(path)
    learner = found.states["learner"]
    broken = {**learner.tensors, "vectors": torch.full_like(learner.tensors["vectors"], torch.nan)}
    states = {**found.states, "learner": State(broken, learner.metadata)}
    shutil.rmtree(path)
    assert checkpoint.save(path.parent, states, found.metadata, keep=10) == path


@pytest.mark.slow
def test_a_harmed_checkpoint_is_passed_over_and_nothing_is_learned_twice_or_never(application):
    """Killed, harmed, started again, four times: it goes on from the one before, and learns the log from there."""
    folder = application.data_dir() / "checkpoints"
    worker = application.start().until_ready()
    for number, harm in enumerate((cut, flip, tear, break_numbers)):
        for part in range(2):
            application.produce(events(40, seed=10 * number + part))
            application.until_done()
            application.until_learned()
        worker.send(signal.SIGKILL)
        worker.wait()
        victim = checkpoint.paths(folder)[-1]
        harm(victim)
        worker = application.start().until_ready()
        assert f"checkpoint path={victim} is not whole and is passed over" in worker.output, harm
        assert "resumed_from=checkpoint-" in worker.output
    application.produce(events(40, seed=99))
    application.until_done()
    application.until_learned()
    assert worker.stop() == 0
    check(application)
