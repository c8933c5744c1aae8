"""How a worker runs its trainer: in a child process or in a thread, with the same interface, by messages alone."""

import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from stream.forked import may_fork
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
    """Where a trainer runs; `launch` makes the place, `begin` says what to work on."""

    @property
    def pid(self) -> int | None: ...

    @property
    def alive(self) -> bool: ...

    def launch(self) -> None: ...

    def begin(self, identity: Identity, instance_id: str) -> None: ...

    def stop(self, timeout_seconds: float) -> bool: ...

    def receive(self) -> Message: ...


class TrainerHandle:
    """A trainer as its worker sees it, in a child process or a thread as the settings say.

    Messages are delivered in order by one thread of the handle's own. The last one is `Ended`, however the trainer
    ended; after it nothing comes.

    Args:
        settings: Of the worker.
    """

    def __init__(self, settings: Settings) -> None:
        self._runner: _Runner = _Process(settings) if settings.trainer.isolation == "process" else _Thread(settings)
        self._launched = False
        self._ended: Ended | None = None
        self._reader: threading.Thread | None = None

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

    def launch(self) -> None:
        """Make the trainer's process, which then waits to be started.

        Called while this process has one thread, it is a fork that shares all that is imported: seconds sooner at work,
        and some hundred MiB smaller.
        """
        if not self._launched:
            self._launched = True
            self._runner.launch()

    def start(self, identity: Identity, instance_id: str) -> None:
        """Start the trainer; returns at once. Once only.

        Args:
            identity: Of the cluster and its topics as they are now.
            instance_id: Of the worker.
        """
        self.launch()
        self._runner.begin(identity, instance_id)

    def listen(self, deliver: Deliver) -> None:
        """Have all messages since the start delivered, those to come included; what `deliver` raises is logged."""
        self._reader = threading.Thread(target=self._read, args=(deliver,), name="trainer-messages", daemon=True)
        self._reader.start()

    def stop(self, timeout_seconds: float) -> bool:
        """Ask the trainer to end, and wait until it has and its last message is delivered.

        Returns:
            Whether it ended in time by itself; a process that did not is killed, a thread left behind.
        """
        if not self._launched:
            return True
        in_time = self._runner.stop(timeout_seconds)
        if self._reader is not None and threading.current_thread() is not self._reader:
            self._reader.join(LAST_WORD_SECONDS)
        return in_time

    def _read(self, deliver: Deliver) -> None:
        while self._ended is None:
            message = self._runner.receive()
            if isinstance(message, Ended):
                self._ended = message
            try:
                deliver(message)
            except Exception:
                logger.exception("a message of the trainer could not be taken")


class _Thread:
    """A trainer in a thread of this process, sharing its interpreter lock."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._thread = threading.Thread(name="trainer", daemon=True)

    @property
    def pid(self) -> int | None:
        return os.getpid() if self._thread.ident is not None else None

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def launch(self) -> None:
        """A thread needs no place of its own."""

    def begin(self, identity: Identity, instance_id: str) -> None:
        self._thread = threading.Thread(target=self._run, args=(identity, instance_id), name="trainer", daemon=True)
        self._thread.start()

    def stop(self, timeout_seconds: float) -> bool:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def receive(self) -> Message:
        return self._messages.get()

    def _run(self, identity: Identity, instance_id: str) -> None:
        from stream.trainer import Trainer

        Trainer(self._settings, identity, instance_id, self._messages.put).run(self._stop)


class _Process:
    """A trainer in a child process, which ends with this one however this one ends."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reaping = threading.Lock()
        self._process: BaseProcess | None = None
        self._pipe: Connection

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._exit_code() is None

    def launch(self) -> None:
        context: Any = multiprocessing.get_context("fork" if may_fork() else "spawn")
        if context.get_start_method() == "spawn":
            resource_tracker.ensure_running()  # its own start, with the first child, would let interrupts through
        self._pipe, child_pipe = context.Pipe()
        # A fork holds our end of the pipe too, and would never see that we are gone.
        ours = self._pipe if context.get_start_method() == "fork" else None
        # A daemon: an exit that forgot to stop it must not wait for it for ever.
        self._process = context.Process(
            target=_child, args=(self._settings, child_pipe, ours), name="millstream-trainer", daemon=True
        )
        with _interrupts_blocked():
            self._process.start()
        child_pipe.close()  # so that the end of the child is the end of the pipe

    def begin(self, identity: Identity, instance_id: str) -> None:
        with suppress(OSError):  # it has ended already: the reader will say how
            self._pipe.send_bytes(identity.dumps())
            self._pipe.send_bytes(instance_id.encode())

    def stop(self, timeout_seconds: float) -> bool:
        assert self._process is not None
        with suppress(OSError):  # it may have ended already
            self._pipe.send_bytes(_STOP)
        if wait([self._process.sentinel], timeout_seconds):
            self._reap()
            return True
        logger.error("trainer pid=%s does not end, it is killed", self._process.pid)
        self._process.kill()
        return False

    def receive(self) -> Message:
        assert self._process is not None
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
        assert self._process is not None
        with self._reaping:
            self._process.join()

    def _exit_code(self) -> int | None:
        assert self._process is not None
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


def _child(settings: Settings, pipe: Connection, parents_end: Connection | None) -> None:
    """Run the trainer in the child; never returns."""
    if parents_end is not None:
        parents_end.close()
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent says when to stop
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    configure(settings.log_level)
    os.nice(settings.trainer.niceness)  # before any other thread: Linux gives each its own

    from stream.trainer import Trainer

    try:
        if (order := pipe.recv_bytes()) == _STOP:
            os._exit(0)
        identity, instance_id = Identity.loads(order), pipe.recv_bytes().decode()
    except (EOFError, OSError):  # the parent is gone before it said what to work on
        os._exit(RESTART_EXIT_CODE)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())  # before there is an order, it just ends
    threading.Thread(target=_obey, args=(pipe, stop), name="orders", daemon=True).start()
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
