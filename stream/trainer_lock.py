"""One trainer a checkpoint folder: an exclusive lock that the kernel releases when its holder dies, however it dies."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep, time

from stream.trainer_errors import TrainerError

LOCK_FILE = "trainer.lock"
PATIENCE_SECONDS = 5.0
"""A killed worker's trainer may take a moment to notice that it is alone."""


@contextmanager
def trainer_lock(folder: Path, instance_id: str, patience_seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Hold the lock on a checkpoint folder; the folder is made when missing.

    Raises:
        TrainerError: Another trainer holds it (the message says where that runs), or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise TrainerError(f"the checkpoint folder {folder} cannot be used: {error.strerror}") from error
    try:
        _acquire(descriptor, folder, patience_seconds)
        _sign(descriptor, instance_id)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, folder: Path, patience_seconds: float) -> None:
    deadline = monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if monotonic() > deadline:
                raise TrainerError(f"a trainer already works in {folder}: {_holder(descriptor)}") from error
        sleep(0.05)


def _sign(descriptor: int, instance_id: str) -> None:
    facts = {"host": socket.gethostname(), "pid": os.getpid(), "instance": instance_id, "since": round(time())}
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(facts).encode(), 0)
    except OSError:
        pass  # a full disk: the lock holds without its inscription


def _holder(descriptor: int) -> str:
    try:
        facts = json.loads(os.pread(descriptor, 4096, 0))
        return f"host {facts['host']}, pid {facts['pid']}, instance {facts['instance']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has not said where it runs"
