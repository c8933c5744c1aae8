"""Apache Kafka's jars: resolved once by Maven into a per-user cache."""

import fcntl
import hashlib
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from stream.brokers.errors import BrokerError

log = logging.getLogger(__name__)

KAFKA_VERSION = "4.3.0"
SILENCE_SECONDS = 60.0
POLL_SECONDS = 0.05


def cache_dir() -> Path:
    """Give the per-user cache folder, `$XDG_CACHE_HOME/millstream` or `~/.cache/millstream`."""
    base = os.environ.get("XDG_CACHE_HOME")
    # A relative value is to be ignored (XDG Base Directory Specification).
    root = Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
    return root / "millstream"


def ensure_jars(cache: Path | None = None, silence_seconds: float = SILENCE_SECONDS) -> Path:
    """Give the folder that holds Kafka's jars; fetch them first where they are missing.

    Several processes may call this at once: one fetches, the others wait for it.

    Args:
        cache: Folder to keep the jars in; the per-user cache by default.
        silence_seconds: Maven is given up when it has written nothing for so long.

    Raises:
        BrokerError: Maven is missing, does not answer, or cannot resolve the jars; or the cache cannot be written.
    """
    pom = resources.files("stream.brokers").joinpath("pom.xml").read_bytes()
    home = cache or cache_dir()
    # The hash makes a change of any pinned version a new folder, and an old folder stays valid for an old checkout.
    target = home / f"kafka-{KAFKA_VERSION}-{hashlib.sha256(pom).hexdigest()[:8]}"
    if target.is_dir():
        return target
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home / f"{target.name}.lock"):
            if not target.is_dir():
                log.info("fetching kafka version=%s into=%s", KAFKA_VERSION, target)
                _fetch(pom, target, silence_seconds)
    except OSError as error:
        raise BrokerError(f"Kafka's jars cannot be kept under {home}: {error}") from error
    return target


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock that ends with this process, however that ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(pom: bytes, target: Path, silence_seconds: float) -> None:
    """Resolve the jars beside `target` and rename: a folder of that name is always whole."""
    for leftover in target.parent.glob(f"{target.name}.part-*"):
        shutil.rmtree(leftover, ignore_errors=True)  # of a process that was killed; we hold the lock
    work = Path(tempfile.mkdtemp(prefix=f"{target.name}.part-", dir=target.parent))
    try:
        (work / "pom.xml").write_bytes(pom)
        _run_maven(work, silence_seconds)
        jars = work / "jars"
        for jar in jars.iterdir():
            _fsync(jar)
        jars.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _run_maven(work: Path, silence_seconds: float) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerError("no Maven: it fetches Apache Kafka once (on Debian: apt-get install maven)")
    output_file = work / "maven.log"
    command = [maven, "--batch-mode", "dependency:copy-dependencies"]
    command += [f"-DoutputDirectory={work / 'jars'}", "-DincludeScope=runtime"]
    with output_file.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=work, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            code = _wait_while_it_writes(process, output_file, silence_seconds)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # mvn is a script: what it started goes too
                process.wait()
    if code != 0:
        reason = first_error(output_file.read_text(errors="replace"))
        raise BrokerError(f"Maven could not resolve Apache Kafka {KAFKA_VERSION}: {reason}")


def _wait_while_it_writes(process: subprocess.Popen[bytes], output_file: Path, silence_seconds: float) -> int:
    """Wait for the end, as long as its output grows: a slow line may take minutes, a dead one is given up."""
    size, quiet_since = 0, time.monotonic()
    while (code := process.poll()) is None:
        if (now_size := output_file.stat().st_size) != size:
            size, quiet_since = now_size, time.monotonic()
        elif time.monotonic() - quiet_since > silence_seconds:
            raise BrokerError(
                f"no answer from Maven within {silence_seconds:g} s; is its repository reachable from here?"
            )
        time.sleep(POLL_SECONDS)
    return code


def first_error(output: str) -> str:
    r"""Pick the line of what Maven wrote that says what went wrong.

    >>> first_error("[INFO] Scanning\n[ERROR] Failed to execute goal x\n[ERROR] Re-run Maven with -e")
    'Failed to execute goal x'
    >>> first_error("")
    'it said nothing'
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in lines:
        if line.startswith("[ERROR] "):
            return line.removeprefix("[ERROR] ")
    return lines[-1] if lines else "it said nothing"
