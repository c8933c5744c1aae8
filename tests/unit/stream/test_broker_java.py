import stat
from pathlib import Path

import pytest

from stream.brokers.errors import BrokerError
from stream.brokers.java import find_java


def _fake_java(folder: Path, body: str) -> Path:
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{body}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@pytest.fixture(autouse=True)
def _no_java_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)


def test_no_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerError, match="no Java: Apache Kafka needs Java 17 or later"):
        find_java()


@pytest.mark.parametrize(("version", "major"), [("1.8.0_392", 8), ("11.0.2", 11)])
def test_java_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, major: int) -> None:
    program = _fake_java(tmp_path, f"echo 'openjdk version \"{version}\"' >&2")
    monkeypatch.setenv("PATH", str(program.parent))
    with pytest.raises(BrokerError, match=f"is Java {major}; Java 17 or later is needed"):
        find_java()


def test_java_home_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = _fake_java(tmp_path, "echo 'openjdk version \"21.0.1\"' >&2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert find_java() == program


def test_something_else_called_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(_fake_java(tmp_path, "echo hello").parent))
    with pytest.raises(BrokerError, match="gave no version"):
        find_java()
