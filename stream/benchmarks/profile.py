"""Where the time of a worker and its trainer goes: py-spy's samples of both, by stage and by function.

A sample is a thread that was running on a core; what it was running belongs to the innermost function that is known to
be a stage. Another thread's time is beside it, so shares are of all CPU time of both processes.
"""

import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stream.benchmarks.asking import at_rate
from stream.benchmarks.record import Measured, Rows, repeated
from stream.benchmarks.rig import Rig, rig
from stream.errors import StartupError
from stream.settings import Settings

SAMPLES_PER_SECOND = 100
BACKLOG = 10_000
WARM_UP_SECONDS = 5.0
DEADLINE_SECONDS = 120.0
N_FUNCTIONS = 10
OTHER = "the rest"
STAGES = (
    ("learn: live measure", r"LiveMeasure\.(observe|learned) .*arms\.py|_measured .*learning\.py"),
    ("learn: step", r"Learning\.(learn|_\w+) .*learning\.py"),
    ("learn: read the log", r"ExampleLog\.\w+ |MiniBatch\.take "),
    ("learn: make updates", r"OnlineLearner\.update |_Run\.(_tell|_report) "),
    ("learn: checkpoints", r"_Run\.(_checkpoint|_cut) |CheckpointWriter\."),
    ("decode and advance", r"Scorer\._advance "),
    ("encode answers and examples", r"Scorer\._answer "),
    ("score", r"Scorer\.process "),
    ("take updates", r"Serving\.apply |_Process\.receive |TrainerHandle\._read "),
    ("publish", r"Publisher\.publish "),
    ("transaction", r"Pipeline\._transact "),
    ("look up: score", r"Lookups\._score_waiting "),
    ("look up: web", r"Lookups\.answer |WebServer\.|_Connection\.| \(aiohttp/"),
    ("metrics", r"Metrics\.exposition |report_(facts|published|start) "),
    ("intake: Faust and aiokafka", r" \((aiokafka|faust|mode)/|intake\.py:"),
    ("event loop and threads", r"asyncio/|\(uvloop|concurrent/futures"),
)
# py-spy leaves out threads that the kernel says are asleep; on a busy machine some that only wait slip through.
_WAITS = re.compile(
    r"^(_worker \(concurrent/futures/thread\.py|Condition\.wait |Connection\._recv |\w+Selector\.select |"
    r"main \(multiprocessing/resource_tracker\.py|thread \(\d+\))"
)
_STAGES = tuple((stage, re.compile(pattern)) for stage, pattern in STAGES)
_FRAME = re.compile(r"^(?P<name>\S+) \((?P<file>[^()]*?)(?::\d+)?\)$")


def measure(
    settings: Settings, rate: float, lookups: float, seconds: int, svg: Path | None, repetitions: int
) -> Measured:
    """Record so many times; the picture, where one is wanted, is of the last worker."""
    functions: Counter[str] = Counter()

    def once() -> Rows:
        with _under_load(settings, rate, lookups) as at:
            stacks = _record(at, seconds)
            if svg is not None:
                _py_spy(at, seconds, "flamegraph", svg)
        functions.update(by_function(stacks))
        return {stage: {"percent_of_cpu": share * 100} for stage, share in shares(by_stage(stacks))}

    runs = repeated("profile", repetitions, once)
    top = [f"{share:6.1%}  {name}" for name, share in list(shares(functions))[:N_FUNCTIONS]]
    medians = Measured("profile", runs).summary()
    largest = sorted(medians, key=lambda stage: -medians[stage]["percent_of_cpu"])[:3]
    notes = [
        "largest: " + ", ".join(f"{stage} {medians[stage]['percent_of_cpu']:.0f}%" for stage in largest),
        "functions by the time in themselves, what they call in C included:",
        *top,
    ]
    parameters = {"rate": rate, "lookups": lookups, "seconds": seconds}
    return Measured("profile", runs, parameters, {"functions": dict(functions)}, notes)


@contextmanager
def _under_load(settings: Settings, rate: float, lookups: float) -> Iterator[Rig]:
    """Give a worker that is warm, and busy with events and look-ups."""
    answered = "millstream_recommendations_total"
    with rig(settings) as at:
        at.produce("synthetic", "--rate", "max", "--events", str(BACKLOG))
        users = sorted({(message.key() or b"").decode() for message in at.read(at.settings.topics.events[0])})
        at.start_worker()
        at.until("millstream_learned_examples_total", BACKLOG, DEADLINE_SECONDS)
        with at.load(rate), _asking(at, users, lookups):
            at.until(answered, at.metrics()[answered, ""] + rate * WARM_UP_SECONDS, DEADLINE_SECONDS)
            yield at


@contextmanager
def _asking(at: Rig, users: list[str], rate: float) -> Iterator[None]:
    """Look lists up meanwhile, in a thread."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            at_rate(at.web, users, rate, 1.0, 16)

    asking = threading.Thread(target=ask, daemon=True)
    if rate:
        asking.start()
    try:
        yield
    finally:
        stop.set()
        if rate:
            asking.join(10.0)


def _record(at: Rig, seconds: int) -> dict[str, int]:
    path = at.folder / "stacks.txt"
    _py_spy(at, seconds, "raw", path)
    return read_stacks(path.read_text(errors="replace").splitlines())


def _py_spy(at: Rig, seconds: int, form: str, path: Path) -> None:
    assert at.worker is not None
    command = [_program(), "record", "--pid", str(at.worker.pid), "--subprocesses", "--threads"]
    command += ["--duration", str(seconds), "--rate", str(SAMPLES_PER_SECOND), "--format", form, "--output", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not path.exists():
        raise StartupError(refusal(done.stderr))


def _program() -> str:
    beside = Path(sys.executable).with_name("py-spy")
    if beside.exists():
        return str(beside)
    if (found := shutil.which("py-spy")) is None:
        raise StartupError("`bench profile` needs py-spy: `make setup` installs it")
    return found


def refusal(stderr: str) -> str:
    """Say in one line why py-spy failed, and what helps.

    >>> refusal("Error: Permission Denied: Try running again with elevated permissions")[:45]
    'py-spy may not look into the worker: this use'
    """
    if "ermission" in stderr:
        return (
            "py-spy may not look into the worker: this user lacks ptrace. Run it as root, with CAP_SYS_PTRACE "
            "(a container: --cap-add SYS_PTRACE), or with the sysctl kernel.yama.ptrace_scope at 0"
        )
    return f"py-spy failed: {' '.join(stderr.split())[-300:]}"


def read_stacks(lines: Iterable[str]) -> dict[str, int]:
    """Read collapsed stacks: frames from the outermost in, then the number of samples; waits are left out."""
    stacks: Counter[str] = Counter()
    for line in lines:
        stack, _, n = line.rpartition(" ")
        if stack and n.isdigit() and not _WAITS.match(stack.rpartition(";")[2]):
            stacks[stack] += int(n)
    return dict(stacks)


def by_stage(stacks: dict[str, int]) -> Counter[str]:
    """Return samples by stage.

    >>> by_stage({"thread (1): compute_0;Scorer.process (stream/scorer.py:9);top_k (online_model/scoring.py:1)": 3})
    Counter({'score': 3})
    """
    found: Counter[str] = Counter()
    for stack, n in stacks.items():
        found[_stage(stack.split(";"))] += n
    return found


def _stage(frames: list[str]) -> str:
    for frame in reversed(frames):
        for stage, pattern in _STAGES:
            if pattern.search(frame):
                return stage
    return OTHER


def by_function(stacks: dict[str, int]) -> Counter[str]:
    """Return samples by the function that was running, whatever line it was at."""
    found: Counter[str] = Counter()
    for stack, n in stacks.items():
        frame = _FRAME.match(stack.rpartition(";")[2])
        found[f"{frame['name']} ({frame['file']})" if frame else OTHER] += n
    return found


def shares(counts: Counter[str]) -> Iterator[tuple[str, float]]:
    """Return names with their share of all, the largest first."""
    total = sum(counts.values())
    for name, n in counts.most_common():
        yield name, n / total
