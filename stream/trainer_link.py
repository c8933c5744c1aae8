"""How a worker runs its trainer: in a child process or in a thread, with the same interface, by messages alone."""

import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Protocol

from stream.identity import Identity
from stream.log_limit import configure
from stream.settings import Settings
from stream.trainer_errors import RESTART_EXIT_CODE
from stream.trainer_messages import Ended, Message, decode, encode

logger = logging.getLogger(__name__)

Deliver = Callable[[Message], None]
LAST_WORD_SECONDS = 5.0
_STOP = b"stop"


class _Runner(Protocol):
    """Where a trainer runs."""

    @property
    def pid(self) -> int | None: ...

    @property
    def alive(self) -> bool: ...

    def start(self) -> None: ...

    def stop(self, timeout_seconds: float) -> bool: ...

    def receive(self) -> Message: ...


class TrainerHandle:
    """A trainer as its worker sees it, in a child process or a thread as the settings say.

    Messages are delivered in order by one thread of the handle's own. The last one is `Ended`, however the trainer
    ended; after it nothing comes.

    Args:
        settings: Of the worker.
        identity: Of the cluster and its topics as they are now.
        instance_id: Of the worker.
        deliver: Takes each message; what it raises is logged.
    """

    def __init__(self, settings: Settings, identity: Identity, instance_id: str, deliver: Deliver) -> None:
        self._runner: _Runner
        if settings.trainer.isolation == "process":
            self._runner = _Process(settings, identity, instance_id)
        else:
            self._runner = _Thread(settings, identity, instance_id)
        self._callback = deliver
        self._ended: Ended | None = None
        self._reader = threading.Thread(target=self._read, name="trainer-messages", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the trainer was started and has not ended."""
        return self._runner.alive

    @property
    def ended(self) -> Ended | None:
        """How the trainer ended; None while it has not."""
        return self._ended

    @property
    def pid(self) -> int | None:
        """Of the trainer's process; None before the start."""
        return self._runner.pid

    def start(self) -> None:
        """Start the trainer; returns at once. Once only."""
        self._runner.start()
        self._reader.start()

    def stop(self, timeout_seconds: float) -> bool:
        """Ask the trainer to end, and wait until it has and its last message is delivered.

        Returns:
            Whether it ended in time by itself; a process that did not is killed, a thread left behind.
        """
        if self._reader.ident is None:
            return True
        in_time = self._runner.stop(timeout_seconds)
        if threading.current_thread() is not self._reader:
            self._reader.join(LAST_WORD_SECONDS)
        return in_time

    def _read(self) -> None:
        while self._ended is None:
            message = self._runner.receive()
            if isinstance(message, Ended):
                self._ended = message
            try:
                self._callback(message)
            except Exception:
                logger.exception("a message of the trainer could not be taken")


class _Thread:
    """A trainer in a thread of this process, sharing its interpreter lock."""

    def __init__(self, settings: Settings, identity: Identity, instance_id: str) -> None:
        self._arguments = settings, identity, instance_id
        self._stop = threading.Event()
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="trainer", daemon=True)

    @property
    def pid(self) -> int | None:
        return os.getpid() if self._thread.ident is not None else None

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_seconds: float) -> bool:
        self._stop.set()
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def receive(self) -> Message:
        return self._messages.get()

    def _run(self) -> None:
        from stream.trainer import Trainer  # torch takes seconds: the worker does not wait for it

        Trainer(*self._arguments, self._messages.put).run(self._stop)


class _Process:
    """A trainer in a child process, which ends with this one however this one ends."""

    def __init__(self, settings: Settings, identity: Identity, instance_id: str) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would carry over threads, locks and Kafka clients
        self._pipe, self._child_pipe = context.Pipe()
        # A daemon: an exit that forgot to stop it must not wait for it for ever.
        self._process = context.Process(
            target=_child,
            args=(settings, identity, instance_id, self._child_pipe),
            name="millstream-trainer",
            daemon=True,
        )
        self._reaping = threading.Lock()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.pid is not None and self._exit_code() is None

    def start(self) -> None:
        with _interrupts_blocked():
            self._process.start()
        self._child_pipe.close()  # so that the end of the child is the end of the pipe

    def stop(self, timeout_seconds: float) -> bool:
        with suppress(OSError):  # it may have ended already
            self._pipe.send_bytes(_STOP)
        if wait([self._process.sentinel], timeout_seconds):
            self._reap()
            return True
        logger.error("trainer pid=%s does not end, it is killed", self._process.pid)
        self._process.kill()
        return False

    def receive(self) -> Message:
        try:
            return decode(self._pipe.recv_bytes())
        except (EOFError, OSError):
            wait([self._process.sentinel])
        self._reap()
        code = self._exit_code() or RESTART_EXIT_CODE
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code} and no last word"
        return Ended(code, f"the trainer process {how}")

    def _reap(self) -> None:
        """Wait for the exit code of a process that has ended: its pipes close a moment before there is one."""
        with self._reaping:
            self._process.join()

    def _exit_code(self) -> int | None:
        with self._reaping:  # of two threads that ask for one child, the second would be told that there is none
            return self._process.exitcode


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Let a child be born that Ctrl-C does not reach: it inherits the mask, until it has said that it ignores them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _child(settings: Settings, identity: Identity, instance_id: str, pipe: Connection) -> None:
    """Run the trainer in the child; never returns."""
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent says when to stop
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    configure(settings.log_level)
    threading.Thread(target=_obey, args=(pipe, stop), name="orders", daemon=True).start()

    from stream.trainer import Trainer

    code = Trainer(settings, identity, instance_id, lambda message: pipe.send_bytes(encode(message))).run(stop)
    logging.shutdown()
    # Threads that hang (a disk, a broker) must not keep a process that has said its last word.
    os._exit(code)


def _obey(pipe: Connection, stop: threading.Event) -> None:
    """Stop when told; die when the parent is gone, SIGKILL included: its end of the pipe closes with it.

    Linux' parent-death signal would follow the thread that started this process, not the process that it belongs to.
    """
    try:
        while pipe.recv_bytes() != _STOP:
            pass
        stop.set()
        pipe.recv_bytes()  # nothing more comes but the end
    except (EOFError, OSError):
        os._exit(RESTART_EXIT_CODE)
