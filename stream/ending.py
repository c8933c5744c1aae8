"""How a process ends: with which exit code, and in any case when what it waits for has no end of its own."""

import logging
import os
import signal
import threading
from contextlib import suppress
from typing import NoReturn

from stream.delivery import Fenced
from stream.errors import StartupError
from stream.recovery import BrokerSilent, RecoveryError
from stream.trainer_news import TrainerEnded
from stream.watchdog import EXIT_CODE as WATCHDOG_EXIT_CODE

logger = logging.getLogger(__name__)

EXIT_CRASHED = 1
LAST_WORD_SECONDS = 2.0


def exit_code(error: BaseException) -> int:
    """Return the exit code of a worker that an error has ended."""
    if isinstance(error, RecoveryError) and not isinstance(error, BrokerSilent):
        return StartupError.exit_code
    if isinstance(error, Fenced):
        return error.exit_code
    # A trainer that a signal ended has a code below 0, which would be read as 256 less that.
    return error.code if isinstance(error, TrainerEnded) and error.code > 0 else EXIT_CRASHED


def end_after(seconds: float, code: int) -> None:
    """End the process in any case: with the broker gone, some waits of a stop have no end of their own."""

    def end() -> None:
        logger.error("stop took longer than %.0f s and was cut short", seconds)
        os._exit(code or EXIT_CRASHED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def put_down(why: str, trainer_pid: int | None) -> NoReturn:
    """End a process that does not work, at once, and its trainer's with it: one that is stopped would stay behind."""
    if trainer_pid is not None:
        with suppress(ProcessLookupError):
            os.kill(trainer_pid, signal.SIGKILL)
    last_word = threading.Thread(target=_say_last, args=(f"watchdog ends the worker: {why}",), daemon=True)
    last_word.start()
    last_word.join(LAST_WORD_SECONDS)  # what hangs may be whoever reads our log
    os._exit(WATCHDOG_EXIT_CODE)


def _say_last(line: str) -> None:
    logger.critical("%s", line)
    logging.shutdown()
