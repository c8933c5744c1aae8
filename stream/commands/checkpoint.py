"""`millstream checkpoint`: what the trainer has kept."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from stream.errors import StartupError
from stream.settings import Settings

app = typer.Typer(help="The trainer's checkpoints.", no_args_is_help=True)


@dataclass(frozen=True)
class _Kept:
    """A checkpoint as `list` shows it; `facts` is empty where it cannot be read, and `why` says why."""

    path: Path
    n_bytes: int
    facts: dict[str, Any]
    why: str

    @property
    def saved(self) -> str:
        if "saved_at" not in self.facts:
            return ""
        return datetime.fromtimestamp(self.facts["saved_at"], UTC).strftime("%Y-%m-%d %H:%M:%SZ")


@app.command("list")
def list_(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="one object instead of the table")] = False,
) -> None:
    """List the checkpoints, newest first; each is read and its checksums are verified."""
    settings: Settings = context.obj
    kept = [_look(path) for path in reversed(_paths(settings))]
    if as_json:
        typer.echo(json.dumps({"checkpoints": [_as_json(each) for each in kept]}))
        return
    if not kept:
        typer.echo(f"no checkpoint in {settings.checkpoint_dir}")
        return
    table = Table("name", "saved", "version", "learned", "position", "whole", box=None)
    for column in table.columns[:-1]:
        column.no_wrap = True
    for each in kept:
        facts = [str(each.facts.get(name, "")) for name in ("version", "learned", "position")]
        table.add_row(each.path.name, each.saved, *facts, "yes" if not each.why else f"no: {each.why}")
    Console().print(table)


@app.command()
def show(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="a checkpoint's name; the newest by default")] = None,
) -> None:
    """Show one checkpoint: what it holds, as JSON."""
    settings: Settings = context.obj
    paths = {path.name: path for path in _paths(settings)}
    if not paths:
        raise StartupError(f"there is no checkpoint in {settings.checkpoint_dir}")
    if name is not None and name not in paths:
        raise StartupError(f"there is no checkpoint {name} in {settings.checkpoint_dir}; there are {', '.join(paths)}")
    from online_model.checkpoint import CheckpointError, load

    try:
        found = load(paths[name] if name is not None else list(paths.values())[-1])
    except CheckpointError as error:
        raise StartupError(str(error)) from error
    tensors = {
        state: {tensor: list(value.shape) for tensor, value in held.tensors.items()}
        for state, held in found.states.items()
    }
    typer.echo(json.dumps({"name": found.path.name, "metadata": found.metadata, "tensors": tensors}, indent=2))


def _paths(settings: Settings) -> list[Path]:
    from online_model.checkpoint import paths  # torch takes seconds to load

    return paths(settings.checkpoint_dir)


def _look(path: Path) -> _Kept:
    from online_model.checkpoint import CheckpointError, load

    try:
        n_bytes = sum(file.stat().st_size for file in path.iterdir())
        return _Kept(path, n_bytes, dict(load(path).metadata), "")
    except (CheckpointError, OSError) as error:
        return _Kept(path, 0, {}, str(error))


def _as_json(kept: _Kept) -> dict[str, Any]:
    facts = {name: kept.facts.get(name) for name in ("saved_at", "version", "learned", "position", "lineage")}
    return {"name": kept.path.name, "bytes": kept.n_bytes, "whole": not kept.why, "why": kept.why, **facts}
