"""Supervision of real processes; each run appends a letter to a file."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from stream import supervise as module
from stream.supervise import pause_seconds

DEADLINE = 30.0
SUPERVISOR = """
import logging, subprocess, sys
from stream import supervise
logging.basicConfig(level="INFO", stream=sys.stderr)
supervise.FIRST_PAUSE_SECONDS = 0.05
supervise.HEALTHY_AFTER_SECONDS = float(sys.argv[2])
sys.exit(supervise.supervise(lambda: subprocess.Popen([sys.executable, "-c", sys.argv[1]]), 0.5))
"""
RUN = """
import os, signal, sys, time
with open("runs", "a") as runs:
    runs.write("x")
n = len(open("runs").read())
"""


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    started: list[subprocess.Popen[str]] = []

    def start(child: str, healthy_after: float = 60) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, RUN + child, str(healthy_after)],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()  # of a test that failed
        process.wait()


Supervised = Callable[..., "subprocess.Popen[str]"]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def has_run(folder: Path, n_runs: int) -> Callable[[], bool]:
    return lambda: (folder / "runs").exists() and len((folder / "runs").read_text()) >= n_runs


@pytest.mark.parametrize("code", [0, 2])
def test_a_run_that_ended_well_or_for_its_settings_is_the_last(
    supervised: Supervised, tmp_path: Path, code: int
) -> None:
    """Red where either code is followed by a restart."""
    assert supervised(f"sys.exit({code})").wait(DEADLINE) == code
    assert (tmp_path / "runs").read_text() == "x"


@pytest.mark.parametrize(("end", "code"), [("sys.exit(1)", 1), ("sys.exit(70)", 70), ("os.kill(os.getpid(), 9)", -9)])
def test_any_other_end_is_followed_by_a_restart(supervised: Supervised, tmp_path: Path, end: str, code: int) -> None:
    process = supervised(f"n > 2 and sys.exit(0); {end}")
    _, log = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert (tmp_path / "runs").read_text() == "xxx"
    assert f"code={code} failures=2" in log


def test_a_healthy_run_begins_the_pauses_anew(supervised: Supervised) -> None:
    """Red where failures are counted on."""
    process = supervised("time.sleep(0.4 if n == 3 else 0); sys.exit(n == 4 and 2 or 1)", healthy_after=0.3)
    _, log = process.communicate(timeout=DEADLINE)
    assert [word for word in log.split() if word.startswith("failures=")] == ["failures=1", "failures=2", "failures=1"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_in_a_pause_is_heard_at_once(supervised: Supervised, number: int) -> None:
    """After 75 the pause is a minute: red where the stop waits for its end."""
    process = supervised("sys.exit(75)")
    assert process.stderr is not None
    assert "code=75" in process.stderr.readline()
    started = time.monotonic()
    os.kill(process.pid, number)
    assert process.wait(DEADLINE) == 75
    assert time.monotonic() - started < DEADLINE


def test_a_stop_is_passed_on_and_nothing_is_started_after_it(supervised: Supervised, tmp_path: Path) -> None:
    """Red where the signal is not sent on, and where the end of a run that was told to stop is taken for a failure."""
    process = supervised("signal.signal(15, lambda *_: sys.exit(1)); open('armed', 'w'); time.sleep(60)")
    until((tmp_path / "armed").exists)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert (tmp_path / "runs").read_text() == "x"
    assert "restart" not in log


def test_a_stop_that_came_while_a_run_was_being_born_is_passed_on_to_it() -> None:
    """Red where only runs that are there are told: this one would be waited for, for ever."""
    told: list[int] = []
    child = SimpleNamespace(returncode=None, send_signal=told.append, kill=lambda: told.append(signal.SIGKILL))
    stop = module._Stop(patience_seconds=60)
    stop.ask(signal.SIGTERM, None)
    stop.watch(child)  # type: ignore[arg-type]
    assert told == [signal.SIGTERM]


def test_a_run_that_ignores_the_stop_is_killed(supervised: Supervised, tmp_path: Path) -> None:
    """Red without the kill: the supervisor would wait for the full minute that the run takes."""
    process = supervised("signal.signal(15, signal.SIG_IGN); open('armed', 'w'); time.sleep(60)")
    until((tmp_path / "armed").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE) == 128 + signal.SIGKILL


def test_pauses_grow_to_a_ceiling() -> None:
    """Red without the ceiling."""
    pauses = [pause_seconds(n, lambda: 0.0) for n in range(1, 12)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (module.FIRST_PAUSE_SECONDS, module.LONGEST_PAUSE_SECONDS)
