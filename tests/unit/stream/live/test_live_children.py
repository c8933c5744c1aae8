"""Child processes, their logs and their end."""

import os
import threading
import time
from pathlib import Path

import psutil
import pytest

from stream.live import children
from stream.live.children import Child, ChildDied

SLEEPS = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
ECHOES = "import sys\nfor line in sys.stdin: print('heard', line.strip(), flush=True)"
FAILS = "import sys; print('the reason', file=sys.stderr); sys.exit(3)"


def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, talks: bool = False) -> Child:
    monkeypatch.setattr(children, "_MAIN", code)
    return Child("worker", ["some", "arguments"], {"A_VARIABLE": "1"}, tmp_path / "worker.log", talks=talks)


def wait_for(condition: object, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def test_a_child_that_died_is_told_with_its_last_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "worker.log").write_text("of a run before\n")
    process = child(monkeypatch, tmp_path, FAILS)

    wait_for(lambda: process._process.poll() is not None)
    with pytest.raises(ChildDied, match="the worker ended by itself with exit code 3") as raised:
        process.check()
    assert raised.value.tail == ["the reason"]
    assert raised.value.log_path == tmp_path / "worker.log"
    assert process.end(1.0, threading.Event())


def test_a_child_hears_and_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    process = child(monkeypatch, tmp_path, ECHOES, talks=True)
    process.tell("launch")
    assert process.lines.readline() == b"heard launch\n"
    process._process.kill()
    process._process.wait()
    process.tell("nobody hears this")
    process.end(10.0, threading.Event())


def test_ends_in_time_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    process = child(monkeypatch, tmp_path, SLEEPS)
    wait_for(lambda: "up" in (tmp_path / "worker.log").read_text())
    leash = process._leash._shell.pid
    assert process.end(10.0, threading.Event())
    assert not psutil.pid_exists(process.pid)
    assert not psutil.pid_exists(leash)


@pytest.mark.parametrize(("deadline", "in_a_hurry"), [(0.2, False), (60.0, True)])
def test_a_stubborn_child_is_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, deadline: float, in_a_hurry: bool
) -> None:
    process = child(monkeypatch, tmp_path, STUBBORN)
    wait_for(lambda: "up" in (tmp_path / "worker.log").read_text())
    hurry = threading.Event()
    if in_a_hurry:
        hurry.set()
    started = time.monotonic()
    assert not process.end(deadline, hurry)
    assert time.monotonic() - started < 10
    assert not psutil.pid_exists(process.pid)


def test_is_in_a_session_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    process = child(monkeypatch, tmp_path, SLEEPS)
    try:
        assert os.getsid(process.pid) != os.getsid(0)
    finally:
        process.end(10.0, threading.Event())
