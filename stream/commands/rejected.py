"""`millstream rejected`: look at what was rejected, and send it back once the cause is mended."""

import json
from collections import Counter, deque
from typing import Annotated

import typer
from confluent_kafka import Message

from stream.commands.tail import print_record, shown
from stream.errors import StartupError
from stream.records import REJECTION_REASONS
from stream.redrive import OTHER_REASON, Redrive, RedriveReport
from stream.rejected import read_rejected
from stream.settings import Settings
from stream.topics.reading import TopicReader

app = typer.Typer(help="Events that could not be used.", no_args_is_help=True)

Reason = Annotated[
    list[str] | None, typer.Option("--reason", help=f"only these; repeatable: {', '.join(REJECTION_REASONS)}")
]
AsJson = Annotated[bool, typer.Option("--json", help="one object")]


@app.command("list")
def list_rejected(
    context: typer.Context,
    reason: Reason = None,
    n: Annotated[int, typer.Option("-n", "--lines", min=0, max=100_000, help="show the last N")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show the last rejected events, and how many there are by reason."""
    settings: Settings = context.obj
    wanted = _checked(reason)
    counts: Counter[str] = Counter()
    last: deque[Message] = deque(maxlen=n)
    with TopicReader(settings, settings.topics.rejected_events) as reader:
        bounds = reader.bounds()
        ends = {partition: end for partition, (_, end) in bounds.items()}
        for message in reader.read_to_end({partition: low for partition, (low, _) in bounds.items()}, ends):
            name = read_rejected(message).reason
            if not wanted or (name if name in REJECTION_REASONS else OTHER_REASON) in wanted:
                counts[name] += 1
                last.append(message)
    if as_json:
        typer.echo(json.dumps({"rejected": counts.total(), "reasons": counts, "settings": {"app_id": settings.app_id}}))
        return
    for message in sorted(last, key=lambda m: m.timestamp()[1]):
        print_record(shown(message), as_json=False)
    typer.echo(f"{counts.total()} rejected" + _by_name(counts), err=True)


@app.command()
def redrive(
    context: typer.Context,
    reason: Reason = None,
    limit: Annotated[int | None, typer.Option(min=1, help="events to send back at most")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="count only; nothing is sent")] = False,
    as_json: AsJson = False,
) -> None:
    """Send rejected events, as they came, to the topic they came from; none that an earlier redrive sent."""
    settings: Settings = context.obj
    wanted = _checked(reason)
    with TopicReader(settings, settings.topics.rejected_events) as reader:
        report = Redrive(settings, wanted).run(reader, limit, dry_run)
    if as_json:
        facts = {"redriven": report.redriven.total(), "reasons": report.redriven, "skipped": report.skipped}
        typer.echo(json.dumps({**facts, "dry_run": dry_run, "settings": {"app_id": settings.app_id}}))
    else:
        _print(report, dry_run)


def _print(report: RedriveReport, dry_run: bool) -> None:
    verb = "would be sent back" if dry_run else "sent back and acknowledged"
    typer.echo(f"{report.redriven.total()} {verb}" + _by_name(report.redriven))
    for cause, count in report.skipped.most_common():
        typer.echo(f"{count} skipped, {cause}")


def _by_name(counts: Counter[str]) -> str:
    return ": " + ", ".join(f"{name} {count}" for name, count in counts.most_common()) if counts else ""


def _checked(reasons: list[str] | None) -> list[str]:
    known = (*REJECTION_REASONS, OTHER_REASON)
    for reason in reasons or []:
        if reason not in known:
            raise StartupError(f"{reason} is no reason for a rejection; there are {', '.join(known)}")
    return reasons or []
