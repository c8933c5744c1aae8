"""A worker that cannot start says so in a line, and ends."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from online_model import checkpoint
from online_model.protocol import State
from stream.settings import Settings
from stream.topics.preflight import create_missing
from stream.trainer_checkpoints import Cut


@pytest.mark.slow
def test_a_checkpoint_that_the_trainer_refuses_ends_the_worker(kafka: Any, fresh_prefix: str, tmp_path: Path) -> None:
    """Red where the application's name is not compared: it would learn on from another's position."""
    topics = {"events": f"{fresh_prefix}-events", "recommendations": f"{fresh_prefix}-out", "partitions": 2}
    variables = {
        "APP_ID": fresh_prefix,
        "DATA_DIR": str(tmp_path),
        "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap,
        "WEB__PORT": "0",
        **{f"TOPICS__{name.upper()}": str(value) for name, value in topics.items()},
    }
    create_missing(
        Settings(
            app_id=fresh_prefix,
            data_dir=tmp_path,
            kafka={"bootstrap_servers": kafka.bootstrap},  # type: ignore[arg-type]
            topics=topics,  # type: ignore[arg-type]
        )
    )
    cut = Cut(None, None, "lineage", 1, 1, 0.0, "another-application", "instance")
    kept = checkpoint.save(tmp_path / "checkpoints", {"learner": State({"x": torch.zeros(1)}, {})}, cut.metadata())

    worker = subprocess.run(
        [sys.executable, "-m", "stream.cli", "worker"],
        env=os.environ | {f"MILLSTREAM_{name}": value for name, value in variables.items()},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert worker.returncode == 2, worker.stderr
    (line,) = [line for line in worker.stderr.splitlines() if "CRITICAL" in line]
    assert "are those of application another-application" in line
    assert [path.name for path in checkpoint.paths(tmp_path / "checkpoints")] == [kept.name]
