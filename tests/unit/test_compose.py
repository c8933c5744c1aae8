"""What can be known of the compose files without a Docker engine."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.brokers.jars import KAFKA_VERSION
from stream.settings import Settings, load_settings, unknown_variables

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose" / "docker-compose.yml"
DOCKERFILE = (ROOT / "compose" / "Dockerfile").read_text(encoding="utf-8")

Require = Callable[..., None]


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    return found


def mounts(service: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield source and target of each mount; a source without a slash is a named volume."""
    for mount in service.get("volumes", []):
        source, target = mount.split(":")[:2]
        yield source, target


def test_the_old_docker_compose_reads_it(require: Require) -> None:
    require("docker-compose")
    run = subprocess.run(
        ["docker-compose", "-f", str(COMPOSE), "config"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
    assert set(yaml.safe_load(run.stdout)["services"]) == {
        "kafka",
        "topics",
        "worker",
        "producer",
        "prometheus",
        "grafana",
    }


def test_every_environment_name_is_a_setting(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert unknown_variables(service.get("environment", {})) == {}, name


@pytest.mark.parametrize("name", ["topics", "worker", "producer"])
def test_the_settings_are_accepted(
    name: str, services: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable, value in services[name]["environment"].items():
        monkeypatch.setenv(variable, value)
    assert load_settings().librdkafka()["bootstrap.servers"] == "kafka:19092"


def test_the_worker_can_be_reached_from_other_containers_and_from_loopback_alone(
    services: dict[str, dict[str, Any]],
) -> None:
    environment = services["worker"]["environment"]
    assert environment["MILLSTREAM_WEB__HOST"] == "0.0.0.0"
    scraped = yaml.safe_load((ROOT / "compose/prometheus/prometheus.yml").read_text())["scrape_configs"][0]
    assert scraped["job_name"] == "millstream"
    assert scraped["static_configs"][0]["targets"] == [f"worker:{environment['MILLSTREAM_WEB__PORT']}"]
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_every_mounted_file_exists(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for source, _ in mounts(service):
            if source.startswith("."):
                assert (COMPOSE.parent / source).exists(), f"{name}: {source}"


def test_what_must_last_is_in_named_volumes(services: dict[str, dict[str, Any]]) -> None:
    declared = set(yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["volumes"])
    named = {target: source for service in services.values() for source, target in mounts(service) if source[0] != "."}
    assert set(named.values()) == declared
    assert services["kafka"]["environment"]["KAFKA_LOG_DIRS"] in named
    assert services["worker"]["environment"]["MILLSTREAM_DATA_DIR"] in named
    assert {"/prometheus", "/var/lib/grafana"} <= set(named)


def test_images_are_pinned(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        if "build" not in service:
            assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"]), name
    assert services["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}", "the Kafka that the tests run against"


def test_whatever_stays_up_is_watched_and_restarted(services: dict[str, dict[str, Any]]) -> None:
    for name in ("kafka", "worker", "prometheus", "grafana"):
        assert services[name]["healthcheck"]["test"], name
        assert services[name]["restart"] == "unless-stopped", name


def test_a_stop_waits_for_the_workers_own(services: dict[str, dict[str, Any]]) -> None:
    grace = services["worker"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > Settings.model_fields["stop_timeout_seconds"].default


def test_prometheus_accepts_its_configuration(
    services: dict[str, dict[str, Any]], tmp_path: Path, require: Require
) -> None:
    require("promtool")
    for source, target in mounts(services["prometheus"]):
        if source.startswith("."):
            copy = tmp_path / target.lstrip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(COMPOSE.parent / source, copy)
    config = tmp_path / "etc/prometheus/prometheus.yml"
    run = subprocess.run(["promtool", "check", "config", str(config)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"\d+ rules found", run.stdout), "the rules are loaded with it"


def test_grafana_finds_its_data_source_and_its_dashboard(services: dict[str, dict[str, Any]]) -> None:
    provisioning = ROOT / "compose/grafana/provisioning"
    source = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    assert source["isDefault"]
    provider = yaml.safe_load((provisioning / "dashboards/millstream.yml").read_text())["providers"][0]
    targets = [target for _, target in mounts(services["grafana"])]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in targets
    assert str(Path(home).parent) == provider["options"]["path"]
    assert "/etc/grafana/provisioning" in targets
    assert json.loads((ROOT / "monitoring/dashboards/millstream.json").read_text())["uid"] == "millstream"


def test_the_image_does_not_run_as_root() -> None:
    final_stage = DOCKERFILE.split("\nFROM ")[-1]
    user = re.findall(r"^USER (\S+)$", final_stage, re.MULTILINE)
    assert user == ["10001:10001"]
    assert final_stage.index("\nUSER ") < final_stage.index("\nENTRYPOINT ")


def test_the_image_is_built_from_files_that_exist_and_are_let_through() -> None:
    ignored = (ROOT / "compose/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for source in copied.split():
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, source


def test_the_image_takes_the_lock_and_the_same_uv() -> None:
    assert "--constraint requirements.lock" in DOCKERFILE
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^torch==[^ ;]+", lock, re.MULTILINE), "the Dockerfile reads torch's version from this line"
    assert re.findall(r"^ARG UV_VERSION=(.+)$", DOCKERFILE, re.MULTILINE) == re.findall(
        r"^UV_VERSION := (.+)$", makefile, re.MULTILINE
    )
