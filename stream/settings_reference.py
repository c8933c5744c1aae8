"""The page of all settings, made from the code: `python -m stream.settings_reference` writes docs/settings.md."""

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from online_model.config import ModelConfig
from stream.settings import ENV_DELIMITER, ENV_PREFIX, TOML_VARIABLE, Settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}

INTRODUCTION = f"""# Settings

Written by `python -m stream.settings_reference` from [stream/settings.py](../stream/settings.py) and
[online_model/config.py](../online_model/config.py); a test says when this page is behind the code.

A setting is an environment variable, or an entry in `millstream.toml`, or its default, in this order. The file is the
one in the current folder; `{TOML_VARIABLE}` names another, which must exist. `millstream config` shows every value and
where it came from.

```toml
app_id = "shop"

[kafka]
bootstrap_servers = "kafka1:9092,kafka2:9092"

[behaviors.roles]
watch = "interest"
```

- Two underscores stand for a dot: `MILLSTREAM_KAFKA__BOOTSTRAP_SERVERS` is `kafka.bootstrap_servers`.
- A list is written `a,b`, a mapping as JSON. An entry of a mapping can be its own variable, its name is then in lower
  case: `MILLSTREAM_BEHAVIORS__ROLES__WATCH=interest` gives a role to `watch`.
- A variable that begins with `{ENV_PREFIX}` and is no setting ends the program with exit code 2 and one line, which
  names the nearest one that is. So does a value that cannot be used.
- Settings are read once, at the start.
"""


class _Row(NamedTuple):
    variable: str
    default: str
    meaning: str


def reference() -> str:
    """Return the page.

    Raises:
        ValueError: A setting has no description.
    """
    groups = _groups()
    general = [
        _row(ENV_PREFIX + name.upper(), info) for name, info in Settings.model_fields.items() if name not in groups
    ]
    parts = [INTRODUCTION, _section("General", "", general)]
    for name, kind in groups.items():
        prefix = f"{ENV_PREFIX}{name.upper()}{ENV_DELIMITER}"
        rows = _model_rows(prefix) if kind is ModelConfig else _group_rows(kind, prefix)
        parts.append(_section(f"`[{name}]`", _first_paragraph(kind), rows))
    return "\n".join(parts)


def _groups() -> dict[str, type]:
    return {
        name: info.annotation
        for name, info in Settings.model_fields.items()
        if isinstance(info.annotation, type) and (issubclass(info.annotation, BaseModel | ModelConfig))
    }


def _group_rows(kind: type[BaseModel], prefix: str) -> list[_Row]:
    return [_row(prefix + name.upper(), info) for name, info in kind.model_fields.items()]


def _row(variable: str, info: FieldInfo) -> _Row:
    if not info.description:
        raise ValueError(f"{variable} has no description")
    default = info.get_default(call_default_factory=True)
    return _Row(variable, _shown(default), "; ".join([info.description, *_choices(info.annotation), *_limits(info)]))


def _model_rows(prefix: str) -> list[_Row]:
    texts, hints = attribute_texts(ModelConfig), get_type_hints(ModelConfig)
    return [
        _Row(
            prefix + field.name.upper(),
            _shown(field.default),
            "; ".join([texts[field.name].rstrip("."), *_choices(hints[field.name])]),
        )
        for field in fields(ModelConfig)
    ]


def attribute_texts(kind: type) -> dict[str, str]:
    """Read the section "Attributes" of a class's docstring.

    Raises:
        ValueError: There is none.
    """
    _, found, section = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    if not found:
        raise ValueError(f"{kind.__name__} describes no attributes")
    joined = re.sub(r"\n {8,}", " ", section)  # a text that goes on in the next line
    return dict(re.findall(r"^ {4}(\w+): (.+)$", joined, re.MULTILINE))


def _choices(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            if part is not NoneType:
                yield from _choices(part)
    elif get_origin(annotation) is Literal:
        yield "one of " + ", ".join(f"`{choice}`" for choice in get_args(annotation))


def _limits(info: FieldInfo) -> Iterator[str]:
    limits = [
        f"{word} {getattr(part, name):g}"
        for part in info.metadata
        for name, word in _BOUNDS.items()
        if isinstance(getattr(part, name, None), int | float)
    ]
    if limits:
        yield " and ".join(limits)


def _shown(value: object) -> str:
    """Write a value as it would be set.

    >>> _shown(None), _shown(True), _shown(["a", "b"])
    ('none', '`true`', '`a,b`')
    """
    if value is None or value == {}:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return f"`{','.join(value)}`"
    return f"`{value}`"


def _section(title: str, text: str, rows: list[_Row]) -> str:
    lines = [f"## {title}", ""]
    if text:
        lines += [text, ""]
    lines += ["| variable | default | meaning |", "|---|---|---|"]
    lines += [f"| `{row.variable}` | {row.default} | {row.meaning} |" for row in rows]
    return "\n".join(lines) + "\n"


def _first_paragraph(kind: type) -> str:
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())


def main(page: Path = PAGE) -> int:
    """Write the page, in a checkout of the project."""
    if not page.parent.is_dir():
        print(f"there is no folder {page.parent}: run this in a checkout of the project", file=sys.stderr)
        return 2
    page.write_text(reference(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
