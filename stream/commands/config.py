"""`millstream config`: every setting, its value and where it came from."""

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, NamedTuple

import typer
from pydantic import BaseModel, SecretStr

from stream.secrets import is_secret
from stream.settings import ENV_DELIMITER, ENV_PREFIX, Settings, toml_path

HIDDEN = "(hidden)"
DEFAULT, ENVIRONMENT = "default", "environment"


class Setting(NamedTuple):
    """A setting as it applies. `source` is default, environment (or the variable there), or the name of the file."""

    name: str
    variable: str
    value: str
    source: str


def config(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="one object instead of the table")] = False,
) -> None:
    """Show every setting, its value and where it came from; secrets stay hidden."""
    path = toml_path()
    file = tomllib.loads(path.read_text()) if path.is_file() else {}
    settings = list(report(context.obj, os.environ, file, str(path)))
    if as_json:
        typer.echo(json.dumps({s.name: {"value": s.value, "source": s.source} for s in settings}))
        return
    for setting in settings:
        source = "" if setting.source == DEFAULT else f"  <- {setting.source}"
        typer.echo(f"{setting.variable}={setting.value}{source}")


def report(
    settings: Settings, environ: Mapping[str, str], file: Mapping[str, Any], file_name: str
) -> Iterator[Setting]:
    """List every setting with its value and where that came from.

    Args:
        settings: What applies.
        environ: The environment that it was read from.
        file: Content of the settings file.
        file_name: How that file is called.
    """
    given = {name.upper() for name in environ}
    for path, value in _leaves(settings):
        variable = ENV_PREFIX + ENV_DELIMITER.join(path).upper()
        yield Setting(".".join(path), variable, _shown(value), _source(path, given, file, file_name))


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, BaseModel):
        names = list(type(value).model_fields)
    elif is_dataclass(value):
        names = [field.name for field in fields(value)]
    else:
        yield path, value
        return
    for name in names:
        yield from _leaves(getattr(value, name), (*path, name))


def _source(path: tuple[str, ...], given: set[str], file: Mapping[str, Any], file_name: str) -> str:
    # A group may be given whole, as JSON in its own variable, and an entry of a mapping in a variable below it.
    for depth in range(len(path), 0, -1):
        variable = ENV_PREFIX + ENV_DELIMITER.join(path[:depth]).upper()
        below = variable + ENV_DELIMITER
        if variable in given:
            return ENVIRONMENT if depth == len(path) else variable
        if depth == len(path) and (entries := [name for name in given if name.startswith(below)]):
            return min(entries)
    part: Any = file
    for name in path:
        if not isinstance(part, Mapping) or name not in part:
            return DEFAULT
        part = part[name]
    return file_name


def _shown(value: Any) -> str:
    """Write a value as it could be set again."""
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(str(entry) for entry in value)
    if isinstance(value, dict):
        return json.dumps({name: HIDDEN if is_secret(name) else entry for name, entry in value.items()})
    return str(value)
