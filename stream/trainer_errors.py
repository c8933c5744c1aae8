"""How a trainer ends that cannot go on: one line, and an exit code that says what a restart is worth."""

RESTART_EXIT_CODE = 1
REFUSED_EXIT_CODE = 2
"""Somebody has to decide something; a supervisor does not restart after it."""
DIVERGED_EXIT_CODE = 70
FENCED_EXIT_CODE = 75


class TrainerError(RuntimeError):
    """The trainer cannot run or go on; the message is the one line to show.

    Attributes:
        exit_code: What the process should end with.
    """

    exit_code = RESTART_EXIT_CODE


class TrainerRefused(TrainerError):
    """What the trainer found does not fit together; the line says what to do, and nothing was overwritten."""

    exit_code = REFUSED_EXIT_CODE


class TrainerFenced(TrainerError):
    """Another trainer has taken over: this one must write nothing any more."""

    exit_code = FENCED_EXIT_CODE
