import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stream.brokers.errors import BrokerError
from stream.brokers.jars import KAFKA_VERSION, cache_dir, ensure_jars

FakeMaven = Callable[[str], None]

WRITES_A_JAR = """
for argument in "$@"; do case "$argument" in -DoutputDirectory=*) out="${argument#*=}";; esac; done
echo run >> "$COUNT"
mkdir -p "$out" && sleep 0.3 && echo jar > "$out/kafka.jar"
"""


@pytest.fixture
def count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COUNT", str(tmp_path / "count"))
    return tmp_path / "count"


@pytest.fixture
def fake_maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMaven:
    def install(body: str) -> None:
        program = tmp_path / "bin" / "mvn"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{body}")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    return install


def test_jars_are_fetched_once_and_whole(tmp_path: Path, fake_maven: FakeMaven, count: Path) -> None:
    fake_maven(WRITES_A_JAR)
    cache = tmp_path / "cache"
    first = ensure_jars(cache)
    assert ensure_jars(cache) == first
    assert [path.name for path in first.iterdir()] == ["kafka.jar"]
    assert first.name.startswith(f"kafka-{KAFKA_VERSION}-")
    assert count.read_text().split() == ["run"]
    assert not list(cache.glob("*.part-*"))


def test_processes_at_once_fetch_once(tmp_path: Path, fake_maven: FakeMaven, count: Path) -> None:
    fake_maven(WRITES_A_JAR)
    code = (
        "import sys; from pathlib import Path; from stream.brokers.jars import *; print(ensure_jars(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert len(answers) == 1
    assert (Path(answers.pop()) / "kafka.jar").is_file()
    assert count.read_text().split() == ["run"]


def test_what_a_killed_fetch_left_is_removed_and_not_taken(tmp_path: Path, fake_maven: FakeMaven, count: Path) -> None:
    fake_maven(WRITES_A_JAR)
    cache = tmp_path / "cache"
    target = ensure_jars(cache)
    leftover = cache / f"{target.name}.part-abc"
    target.rename(leftover)
    assert ensure_jars(cache) == target
    assert not leftover.exists()
    assert count.read_text().split() == ["run", "run"]


def test_no_maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerError, match="no Maven"):
        ensure_jars(tmp_path / "cache")


def test_a_maven_that_says_nothing_is_given_up(tmp_path: Path, fake_maven: FakeMaven) -> None:
    fake_maven("echo started; exec sleep 60")
    with pytest.raises(BrokerError, match=r"no answer from Maven within 0\.5 s"):
        ensure_jars(tmp_path / "cache", silence_seconds=0.5)
    assert not list((tmp_path / "cache").glob("*.part-*"))


def test_a_maven_that_fails_is_quoted(tmp_path: Path, fake_maven: FakeMaven) -> None:
    fake_maven("echo '[INFO] x'; echo '[ERROR] Could not resolve kafka_2.13'; exit 1")
    with pytest.raises(BrokerError, match=r"could not resolve Apache Kafka .*: Could not resolve kafka_2\.13"):
        ensure_jars(tmp_path / "cache")


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match="cannot be kept under"):
        ensure_jars(tmp_path / "file" / "cache")


def test_the_cache_follows_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "millstream"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_dir() == Path.home() / ".cache" / "millstream"


def test_the_pom_names_the_version_of_the_cache() -> None:
    pom = (Path(__file__).parents[3] / "stream" / "brokers" / "pom.xml").read_text()
    assert f"<artifactId>kafka_2.13</artifactId>\n      <version>{KAFKA_VERSION}</version>" in pom
    assert "<repositor" not in pom
