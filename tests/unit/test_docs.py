"""What the documents say is what the code does: commands, options, settings, metrics, links, records."""

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from monitoring.metrics import Metrics
from stream.behaviors import DEFAULT_ALIASES, DEFAULT_ROLES, behavior_table
from stream.cli import app
from stream.records import (
    REJECTION_REASONS,
    Event,
    EventRecord,
    Recommendation,
    RecommendedItem,
    TrainingExample,
    decode_recommendation,
    event_decoder,
)
from stream.settings import Settings, unknown_variables
from stream.settings_reference import reference
from stream.topics.expected import expected_topics

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "monitoring/**/*.md", "compose/*.md")
    for path in ROOT.glob(pattern)
    if not path.is_relative_to(ROOT / ".venv")
)
RECORDS = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def without_blocks(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)


def code(page: Path) -> Iterator[str]:
    """Yield each line of code: fenced blocks line by line, and inline code; comments are left out."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^ *```[^\n]*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        yield from (line.split(" #")[0] for line in block.splitlines())
    yield from re.findall(r"`([^`\n]+)`", without_blocks(text))


def calls(page: Path) -> Iterator[list[str]]:
    """Yield the words after each `millstream` that is called."""
    for line in code(page):
        for call in re.findall(r"(?:^|[\s=/])millstream ((?:[a-z]+(?![\w:])|--)[^|&;)]*)", line):
            yield call.split()


def problem(words: list[str]) -> str | None:
    """Say what the command line would not take; None when it takes it all."""
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        name, *words = words
        if name not in command.commands:
            return f"no command {name!r}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if word.startswith("--") and word.rstrip(",").split("=")[0] not in known]
    return f"no option {unknown[0]}" if unknown else None


@every_page
def test_commands_and_their_options_exist(page: Path) -> None:
    assert [(words, why) for words in calls(page) if (why := problem(words)) is not None] == []


def test_a_command_that_does_not_exist_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Run `millstream walker`.\n\n```\nmillstream worker --supervize  # so\n```\n")
    assert [problem(words) for words in calls(page)] == ["no option --supervize", "no command 'walker'"]


@every_page
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for line in code(page) for target in re.findall(r"(?:^|[\s`])make ([a-z]+)", line)}
    assert named <= targets


@every_page
def test_variables_are_settings(page: Path) -> None:
    named = re.findall(r"MILLSTREAM_[A-Z0-9_]*[A-Z0-9]", page.read_text(encoding="utf-8"))
    assert unknown_variables(dict.fromkeys(named, "")) == {}


@every_page
def test_metrics_exist_with_these_labels(page: Path) -> None:
    families = text_string_to_metric_families(Metrics(CollectorRegistry()).exposition().decode())
    labels: dict[str, set[str]] = {}
    for family in families:
        labels.setdefault(family.name, set())
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
            labels[family.name].update(sample.labels)
    # Of these, no series exists before there is something to say.
    labels["millstream_consumer_lag"] = {"topic"}
    for name, given in re.findall(r"\b(millstream_[a-z_]+)(?:\{([^}`]*)\})?", page.read_text(encoding="utf-8")):
        assert name in labels, name
        named = {part.partition("=")[0].strip() for part in given.split(",") if part}
        assert named <= labels[name] or not labels[name], (name, given)


@every_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_page_of_settings_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == reference(), "run python -m stream.settings_reference"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", ["README.md", "docs/records.md"])
def test_the_records_that_are_shown_can_be_read(name: str) -> None:
    event, answer = blocks(ROOT / name, "json")
    decoded = event_decoder(Settings().fields, behavior_table(Settings().behaviors))(event.encode())
    assert isinstance(decoded, Event)
    assert json.loads(event).keys() <= set(EventRecord.__struct_fields__)
    assert decode_recommendation(answer).trigger is not None
    assert json.loads(answer).keys() <= set(Recommendation.__struct_fields__)
    assert decode_recommendation(answer).user_id == decoded.user_id


def test_the_python_that_is_shown_can_be_imported() -> None:
    (example,) = blocks(ROOT / "README.md", "python")
    for statement in ast.walk(ast.parse(example)):
        if isinstance(statement, ast.ImportFrom):
            module = importlib.import_module(str(statement.module))
            assert all(hasattr(module, alias.name) for alias in statement.names)


def test_every_reason_of_a_rejection_is_explained() -> None:
    assert set(re.findall(r"^\| `([a-z-]+)` \|", RECORDS.split("### Rejected")[1].split("\n## ")[0], re.MULTILINE)) == {
        *REJECTION_REASONS
    }


def test_every_behaviour_stands_beside_its_role() -> None:
    rows = re.findall(r"^\| (\w+) \| ([^|]+) \|", RECORDS.split("### Behaviours")[1].split("\n### ")[0], re.MULTILINE)
    said = {behavior: role for role, cell in rows for behavior in re.findall(r"`(\w+)`", cell)}
    assert said == DEFAULT_ROLES
    aliases = " ".join(RECORDS.split("Aliases: ")[1].split("\n\n")[0].split()).split("Names are")[0]
    pairs = [
        re.findall(r"`(\w+)`", part)
        for part in re.split(r"(?<=`), (?!`)|, (?=`\w+`(?: and `\w+`)? (?:is|are))", aliases)
    ]
    assert {alias: names[-1] for names in pairs for alias in names[:-1]} == DEFAULT_ALIASES


@pytest.mark.parametrize("record", [EventRecord, Recommendation, RecommendedItem, TrainingExample])
def test_every_field_is_named(record: type) -> None:
    missing = [name for name in record.__struct_fields__ if f"`{name}`" not in RECORDS]  # type: ignore[attr-defined]
    assert missing == []


def test_every_topic_is_named() -> None:
    settings = Settings(app_id="APP")
    names = [topic.name.replace("APP-", "<app_id>-") for topic in expected_topics(settings)]
    assert [name for name in names if f"`{name}`" not in RECORDS] == []


def test_the_torch_that_is_named_is_that_of_the_lock() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (locked,) = re.findall(r"^(torch==[^ ;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert re.findall(r"torch==[\d.]+", readme) == [locked]
