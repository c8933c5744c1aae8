"""Samples of py-spy, by stage and by function; and py-spy itself, on a child of the test."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from stream.benchmarks import profile
from stream.errors import StartupError

REPOSITORY = Path(__file__).parents[4]
WORKER = 'process 1:"python -P -c from stream.cli import main; main() worker"'
COMPUTE = f"{WORKER};thread (3): compute_0;_worker (concurrent/futures/thread.py:83)"


@pytest.mark.parametrize(
    ("stack", "stage"),
    [
        (f"{COMPUTE};Scorer.process (stream/scorer.py:160);_mm (torch/x.py:1)", "score"),
        (f"{COMPUTE};Scorer.process (stream/scorer.py:160);Scorer._advance (stream/scorer.py:1)", "decode and advance"),
        (f"{COMPUTE};Lookups._score_waiting (stream/lookups.py:9);top_k (scoring.py:1)", "look up: score"),
        (f"{COMPUTE};Serving.apply (stream/serving.py:40);load (x.py:2)", "take updates"),
        (f"{COMPUTE};f (torch/x.py:1)", "event loop and threads"),
        (f"{WORKER};_Run._learn (trainer.py:1);Learning.learn (stream/learning.py:1);f (x.py:1)", "learn: step"),
        (
            f"{WORKER};Learning.learn (stream/learning.py:1);LiveMeasure.observe (online_model/evaluation/arms.py:9)",
            "learn: live measure",
        ),
        (f"{WORKER};RequestHandler.start (aiohttp/web_protocol.py:5)", "look up: web"),
        (f"{WORKER};Fetcher._fetch (aiokafka/consumer/fetcher.py:5)", "intake: Faust and aiokafka"),
        ("nothing known", profile.OTHER),
    ],
)
def test_a_sample_belongs_to_the_innermost_stage(stack, stage):
    assert profile.by_stage({stack: 2}) == {stage: 2}


def test_lines_of_one_function_are_added_up():
    stacks = profile.read_stacks(
        [f"{COMPUTE};f (a/b.py:1) 3", f"{COMPUTE};f (a/b.py:2) 2", "broken", f"{COMPUTE};g (a/b.py:7) 1"]
    )
    assert profile.by_function(stacks) == {"f (a/b.py)": 5, "g (a/b.py)": 1}
    assert list(profile.shares(profile.by_function(stacks))) == [("f (a/b.py)", 5 / 6), ("g (a/b.py)", 1 / 6)]


def test_a_thread_that_waits_is_no_time():
    waits = [
        f"{WORKER};thread (3): compute_0;_worker (concurrent/futures/thread.py:81) 5",
        f"{WORKER};Watchdog._run (stream/watchdog.py:99);Condition.wait (threading.py:331) 5",
        f"{WORKER};BaseSelector.x (a.py:1);EpollSelector.select (selectors.py:468) 5",
    ]
    assert profile.read_stacks(waits) == {}


def test_every_stage_names_functions_that_exist():
    """A function that is renamed would let its stage vanish from the profile: so a stale name here turns this red."""
    sources = "".join(
        path.read_text() for room in ("stream", "online_model") for path in (REPOSITORY / room).rglob("*.py")
    )
    for name in (
        "class LiveMeasure:",
        "class Learning:",
        "class ExampleLog:",
        "class CheckpointWriter:",
        "def _advance(",
        "def _answer(",
        "def _score_waiting(",
        "def _transact(",
        "class Publisher:",
        "class Serving:",
        "def _tell(",
        "def _cut(",
    ):
        assert name in sources, name


def test_a_process_of_ours_is_recorded(tmp_path):
    busy = subprocess.Popen([sys.executable, "-c", "def burn():\n  while True: sum(range(1000))\nburn()"])
    try:
        at = SimpleNamespace(worker=SimpleNamespace(pid=busy.pid), folder=tmp_path)
        try:
            stacks = profile._record(at, 1)
        except StartupError as error:
            pytest.skip(str(error))
    finally:
        busy.kill()
        busy.wait()
    assert max(profile.by_function(stacks).items(), key=lambda each: each[1])[0].startswith("burn ")
