"""The systemd unit of docs/: what it promises fits the worker, and systemd understands it."""

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from stream import notify
from stream.settings import Settings, unknown_variables
from stream.supervise import USAGE_EXIT_CODE
from stream.watchdog import PERIOD_SECONDS, SLOW_SECONDS

UNIT = Path(__file__).parents[2] / "docs" / "millstream.service"


def values(name: str) -> list[str]:
    return re.findall(rf"^#?{name}=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)


def value(name: str) -> str:
    (found,) = values(name)
    return found


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_it(tmp_path: Path) -> None:
    here = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8").replace("/opt/millstream/.venv/bin/millstream", "/bin/true")
    here.write_text(text.replace("User=millstream", "User=root"), encoding="utf-8")
    run = subprocess.run(["systemd-analyze", "verify", str(here)], capture_output=True, text=True, check=False)
    said = [line for line in (run.stdout + run.stderr).splitlines() if UNIT.name in line]
    # Before 254 systemd knows no growing pauses, and says so.
    assert [line for line in said if "RestartSteps" not in line and "RestartMaxDelaySec" not in line] == []


def test_every_environment_name_is_a_setting() -> None:
    names = [found.partition("=")[0] for found in values("Environment")]
    assert unknown_variables({name: "" for name in names if name.startswith("MILLSTREAM_")}) == {}


def test_a_stop_waits_for_the_workers_own() -> None:
    assert int(value("TimeoutStopSec")) > Settings.model_fields["stop_timeout_seconds"].default


def test_what_somebody_has_to_put_right_is_not_tried_again() -> None:
    assert value("Restart") == "on-failure"
    assert value("RestartPreventExitStatus") == str(USAGE_EXIT_CODE)


def test_signs_of_life_come_often_enough() -> None:
    assert value("Type") == "notify"
    assert int(value("WatchdogSec")) > 4 * (PERIOD_SECONDS + SLOW_SECONDS)


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_facts_reach_the_socket_that_systemd_names(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_prefix: str
) -> None:
    address = str(tmp_path / "notify") if kind == "path" else f"@{fresh_prefix}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address if kind == "path" else "\0" + address[1:])
        listener.settimeout(10)
        monkeypatch.setenv(notify.SOCKET_VARIABLE, address)
        notify.ready()
        notify.alive()
        notify.stopping()
        assert [listener.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(notify.SOCKET_VARIABLE, raising=False)
    notify.ready()
    monkeypatch.setenv(notify.SOCKET_VARIABLE, str(tmp_path / "nobody"))
    notify.alive()
