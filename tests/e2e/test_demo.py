"""`millstream demo` as a person starts it: it answers, it ends, and nothing of it is left."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROGRAM = Path(sys.executable).with_name("millstream")
START_SECONDS = 240.0  # a loaded machine imports torch in a minute, twice
END_SECONDS = 40.0
ANSWERED = re.compile(r"answered [1-9]")


class Demo:
    """A running demo, what it wrote, and every process that it ever had."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
        environ |= {"TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
        # A terminal as people have it; the plain demo writes its lines there, too.
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 80))
        self.terminal = ours
        self._theirs = theirs
        self.before = termios.tcgetattr(theirs)
        self.process = subprocess.Popen(
            [PROGRAM, "demo", *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environ, cwd=folder
        )
        self._written = bytearray()
        self._family: dict[int, psutil.Process] = {}
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._read, self._watch)]
        for thread in self._threads:
            thread.start()

    @property
    def text(self) -> str:
        """What it wrote, without what moves the cursor and sets colours."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", bytes(self._written).decode(errors="replace"))

    def press(self, key: str) -> None:
        os.write(self.terminal, key.encode())

    def wait_for(self, pattern: str | re.Pattern[str], seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert self.process.poll() is None, f"it ended before {pattern!r}:\n{self.text[-3000:]}"
            assert time.monotonic() < deadline, f"no {pattern!r}:\n{self.text[-3000:]}"
            time.sleep(0.05)

    def wait(self, seconds: float = END_SECONDS) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it did not end:\n{self.text[-3000:]}")

    def child(self, word: str) -> psutil.Process:
        """The child whose command line ends with this word."""
        for process in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if word in process.cmdline():
                    return process
        pytest.fail(f"no child {word}")

    def left(self, seconds: float = END_SECONDS) -> list[str]:
        """Processes and folders that are still there after a while."""
        deadline = time.monotonic() + seconds
        while True:
            left = [f"{p.pid}: {self._family[p.pid]}" for p in self._family.values() if self._runs(p)]
            left += [str(path) for path in self.folder.iterdir() if path.name.startswith("millstream-")]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.1)

    def hang_up(self) -> None:
        """Take the terminal away; reading and writing it fails from now on."""
        os.close(self._theirs)
        os.close(self.terminal)
        self._theirs = self.terminal = -1

    def close(self) -> None:
        self._is_over.set()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in self._family.values():
            with contextlib.suppress(psutil.Error):
                process.kill()
        if self._theirs >= 0:
            os.close(self._theirs)
        for thread in self._threads:
            thread.join(10)
        if self.terminal >= 0:
            os.close(self.terminal)

    def _runs(self, process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while not self._is_over.is_set():
                chunk = os.read(self.terminal, 65536)
                if not chunk:
                    return
                self._written += chunk

    def _watch(self) -> None:
        while not self._is_over.wait(0.1):
            with contextlib.suppress(psutil.Error):
                for process in psutil.Process(self.process.pid).children(recursive=True):
                    self._family.setdefault(process.pid, process)


StartDemo = Callable[..., Demo]


@pytest.fixture
def start_demo(tmp_path: Path) -> Iterator[StartDemo]:
    demos: list[Demo] = []

    def start(*arguments: str) -> Demo:
        demos.append(Demo(tmp_path, *arguments))
        return demos[-1]

    try:
        yield start
    finally:
        for demo in demos:
            demo.close()


def demo_topics(kafka: Any) -> set[str]:
    names = kafka.admin.list_topics(timeout=20).topics
    return {name for name in names if name.startswith("millstream-demo-")}


@pytest.fixture
def takes_its_topics_along(kafka: Any) -> Iterator[None]:
    """What a killed demo of another test left on the session's broker does not count."""
    before = demo_topics(kafka)
    yield
    assert demo_topics(kafka) == before


def test_a_demo_of_its_own_answers_and_leaves_nothing(start_demo: StartDemo, fresh_kafka: object) -> None:
    demo = start_demo("--broker", "kafka", "--plain", "--seconds", "12")
    assert demo.wait(START_SECONDS) == 0, demo.text
    assert "Apache Kafka at 127.0.0.1:" in demo.text
    assert ANSWERED.search(demo.text)
    assert "hit rate at 20" in demo.text
    assert len(demo._family) >= 4  # Kafka, worker, trainer and shop were seen, or the next line means nothing
    assert demo.left() == []


@pytest.mark.usefixtures("takes_its_topics_along")
def test_the_live_view_keys_and_the_terminal_afterwards(start_demo: StartDemo, kafka: Any) -> None:
    demo = start_demo("--broker", kafka.bootstrap)
    demo.wait_for(r"did, the newest first[\s\S]*user u\d+")
    demo.wait_for(r"answered\s+[1-9]")
    demo.press("n")
    demo.wait_for(r"first recommended after [\d.]+ (ms|s)")
    demo.press("t")
    demo.wait_for(r"tastes turned over \d+ s ago")
    demo.press("q")
    assert demo.wait() == 0
    assert b"\x1b[?1049l" in demo._written  # the terminal's first screen is back
    assert termios.tcgetattr(demo._theirs) == demo.before
    assert demo.left() == []


@pytest.mark.usefixtures("takes_its_topics_along")
def test_ctrl_c_ends_it_in_order(start_demo: StartDemo, kafka: Any) -> None:
    demo = start_demo("--broker", kafka.bootstrap, "--plain")
    demo.wait_for(ANSWERED)
    demo.process.send_signal(signal.SIGINT)
    assert demo.wait() == 0
    assert demo.left() == []


def test_ctrl_c_while_it_starts(start_demo: StartDemo, kafka: Any) -> None:
    demo = start_demo("--broker", kafka.bootstrap, "--plain")
    demo.wait_for("worker: starting")
    demo.process.send_signal(signal.SIGINT)
    assert demo.wait() == 0
    assert demo.left() == []


def test_its_children_end_with_a_killed_demo(start_demo: StartDemo, kafka: Any) -> None:
    demo = start_demo("--broker", kafka.bootstrap, "--plain")
    demo.wait_for(ANSWERED)
    demo.process.kill()
    demo.process.wait()
    assert demo.left() == []


@pytest.mark.usefixtures("takes_its_topics_along")
def test_ends_in_order_with_its_terminal(start_demo: StartDemo, kafka: Any) -> None:
    demo = start_demo("--broker", kafka.bootstrap)
    demo.wait_for(r"answered\s+[1-9]")
    demo.process.send_signal(signal.SIGHUP)
    demo.hang_up()
    assert demo.wait() == 128 + signal.SIGHUP
    assert demo.left(0.0) == []  # in order: there was nothing left for the leash to end


def test_a_reader_that_has_seen_enough(fresh_kafka: object, tmp_path: Path) -> None:
    environ = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [PROGRAM, "demo", "--plain", "--broker", "kafka"], stdout=subprocess.PIPE, env=environ, cwd=tmp_path
    ) as demo:
        assert demo.stdout is not None
        assert demo.stdout.readline()
        demo.stdout.close()
        assert demo.wait(START_SECONDS) == 0
    assert list(tmp_path.glob("millstream-*")) == []


def test_a_worker_that_died_is_told_with_its_log(start_demo: StartDemo, kafka: Any) -> None:
    demo = start_demo("--broker", kafka.bootstrap, "--plain")
    demo.wait_for(ANSWERED)
    demo.child("worker").kill()
    assert demo.wait() == 1
    told = re.search(r"the worker ended by itself by SIGKILL; its log: (\S+)", demo.text)
    assert told, demo.text
    assert "started" in Path(told[1]).read_text()


def test_a_first_look_without_java(start_demo: StartDemo) -> None:
    demo = start_demo("--broker", "mock", "--plain", "--rate", "500", "--seconds", "7")
    assert demo.wait(START_SECONDS) == 0, demo.text
    assert "nothing is kept after the end" in demo.text
    assert "100 events a second: more would run over the embedded broker" in demo.text
    assert ANSWERED.search(demo.text)
    assert demo.left() == []


def test_goes_on_where_it_was(start_demo: StartDemo, fresh_kafka: object, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    first = start_demo("--broker", "kafka", "--data-dir", str(kept), "--plain", "--seconds", "6")
    assert first.wait(START_SECONDS) == 0, first.text
    second = start_demo("--broker", "kafka", "--data-dir", str(kept), "--plain", "--seconds", "5")
    assert second.wait(START_SECONDS) == 0, second.text
    log = (kept / "logs" / "worker.log").read_text()
    assert re.search(r"resumed_from=(?!None)", log)
    assert re.search(r"recovered .*users=[1-9]", log)


@pytest.mark.parametrize(
    ("arguments", "reason", "code"),
    [
        (["--broker", "redpanda"], "expected auto, kafka, mock or host:port, got 'redpanda'", 2),
        (["--broker", "mock", "--data-dir", "x"], "--data-dir keeps nothing with --broker mock", 2),
        (["--broker", "127.0.0.1:1"], "no Kafka answers at 127.0.0.1:1", 69),
    ],
)
def test_what_cannot_start_says_so_in_one_line(arguments: list[str], reason: str, code: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [PROGRAM, "demo", "--plain", *arguments],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert done.returncode == code
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.glob("millstream-*")) == []
