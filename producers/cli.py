"""`millstream produce ...`: events into Kafka, from a file or from a shop that does not exist."""

import json
import os
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from ulid import ULID

from producers.catalogue import CatalogueUnreadable, Item, read_catalogue
from producers.context import fail, require_topic, settings_of
from producers.control import Commands
from producers.delivery import Delivery
from producers.files import EventFile, FileUnreadable, open_events
from producers.mapping import EventMapper, MappingInvalid, parse_mapping
from producers.pace import RecordedPace, SteadyPace
from producers.publish import EventPublisher
from producers.replay import Replay, ReplayReport, resolve_unit, sample, shift_to_now
from producers.shop_config import ShopConfig
from producers.terminal import ProgressLine, Stop, say, stop_on_signals
from producers.times import TimeUnit, TimeUnitUnclear

if TYPE_CHECKING:  # the shop's numbers take a while to import, and every `millstream` command comes by here
    from producers.synthetic import CatalogueOutput, Status

app = typer.Typer(help="Send events to Kafka: from a file, or from a synthetic shop.", no_args_is_help=True)


class OnError(StrEnum):
    """What a line that makes no event does."""

    SKIP = "skip"
    STOP = "stop"


def parse_factor(text: str) -> float | None:
    """Read a number above 0, or `max`, which is None.

    Raises:
        BadParameter: It is neither.

    >>> parse_factor("2.5"), parse_factor("max")
    (2.5, None)
    """
    if text == "max":
        return None
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise typer.BadParameter(f"expected a number above 0, or max, got {text!r}")
    return number


@app.command()
def replay(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV, JSONL (.gz too) or Parquet, in the order of time")],
    speed: Annotated[str, typer.Option(help="times as fast as recorded, or max", metavar="N|max")] = "1",
    limit: Annotated[int | None, typer.Option(min=1, help="events to send at most")] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="COLUMN=FIELD",
            help="a column that is named differently; FIELD may be "
            "context.NAME, or empty to leave the column out; repeatable",
        ),
    ] = None,
    time_unit: Annotated[TimeUnit, typer.Option(help="what the time column counts")] = TimeUnit.AUTO,
    on_error: Annotated[OnError, typer.Option(help="what a line that makes no event does")] = OnError.SKIP,
    topic: Annotated[str | None, typer.Option(help="where to; the events topic of the settings otherwise")] = None,
    shift_times: Annotated[
        bool, typer.Option("--shift-to-now/--keep-times", help="move all times so that the recording happens now")
    ] = False,
    behavior: Annotated[str | None, typer.Option(help="of every event whose line has none")] = None,
    event_ids: Annotated[
        bool, typer.Option("--event-ids/--no-event-ids", help="give events without an id one made of file and line")
    ] = True,
    max_pause: Annotated[float, typer.Option(min=0.0, help="seconds that no pause is longer than")] = 10.0,
) -> None:
    """Send a recorded stream again, at its own pace times a factor, or as fast as Kafka takes it."""
    settings = settings_of(context)
    factor = parse_factor(speed)
    destination = topic or settings.topics.events[0]
    try:
        mapper = EventMapper(
            parse_mapping(mapping or []), behavior=behavior, id_prefix=file.name[-200:] if event_ids else None
        )
        with open_events(file) as events:
            if events.columns is not None:
                mapper.check_columns(events.columns)
            lines, times = sample(events, mapper)
            mapper.unit, why = resolve_unit(times, time_unit)
            say(f"times are in {'seconds' if mapper.unit is TimeUnit.SECONDS else 'milliseconds'}: {why}")
            if shift_times:
                mapper.shift_ms = _shift(file, mapper, times, factor, limit)
            config = settings.librdkafka()
            require_topic(config, destination)
            pace = None if factor is None else RecordedPace(factor, time.monotonic, max_pause)
            with stop_on_signals() as stop, ProgressLine(1.0) as progress:
                replayed = Replay(
                    mapper,
                    EventPublisher(config, destination),
                    pace,
                    stop,
                    limit=limit,
                    stop_on_error=on_error is OnError.STOP,
                    on_progress=lambda report: _show(progress, report, events, limit),
                ).run(lines)
    except (FileUnreadable, MappingInvalid, TimeUnitUnclear) as error:
        fail(str(error))
    _conclude(replayed, mapper, stop)


def _shift(file: Path, mapper: EventMapper, first: list[object], speed: float | None, limit: int | None) -> int:
    now_ms = time.time_ns() // 1_000_000
    if speed is not None and speed <= 1:
        shift = shift_to_now(first, mapper.unit, now_ms, speed)
    else:
        with open_events(file) as again:
            times = (mapper.time_of(line) for _, line in zip(range(limit or 2**63), again, strict=False))
            shift = shift_to_now(times, mapper.unit, now_ms, speed)
    say(f"times are moved by {shift / 86_400_000:.2f} days")
    return shift


def _show(progress: ProgressLine, report: ReplayReport, events: EventFile, limit: int | None) -> None:
    done = events.fraction_read() if limit is None else max(events.fraction_read(), report.produced / limit)
    progress.show(f"produced {report.produced}, acknowledged {report.acknowledged}, skipped {report.skipped}", done)


def _conclude(report: ReplayReport, mapper: EventMapper, stop: Stop) -> None:
    for problem in report.problems:
        say(problem)
    if report.skipped > len(report.problems):
        say(f"... and {report.skipped - len(report.problems)} more lines that make no event")
    if mapper.left_out:
        say(f"columns left out: {', '.join(mapper.left_out)} (keep one with --map COLUMN=context.NAME)")
    print(report, flush=True)
    if report.failure is not None:
        say(f"millstream: {report.failure}")
    elif report.skipped and not report.produced:
        say("millstream: no line of the file makes an event")
        raise typer.Exit(1)
    if stop.exit_code or report.failure is not None:
        raise typer.Exit(stop.exit_code or 1)


@app.command()
def synthetic(
    context: typer.Context,
    rate: Annotated[str, typer.Option(help="events a second, or max", metavar="N|max")] = "200",
    events: Annotated[int | None, typer.Option(min=1, help="events to send at most")] = None,
    seed: Annotated[int, typer.Option(help="everything follows from it, but times and event ids")] = 0,
    users: Annotated[int, typer.Option(min=1, help="how many people")] = ShopConfig.users,
    items: Annotated[int, typer.Option(help="how many items at a time")] = ShopConfig.items,
    impressions: Annotated[bool, typer.Option(help="record pages that people leaf through")] = False,
    time_factor: Annotated[
        float, typer.Option(min=1.0, help="event time passes so many times as fast as the clock, from 60 days ago")
    ] = 1.0,
    catalog: Annotated[
        Path | None, typer.Option(help="JSONL file of the items: read where it exists, and kept up to date")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="where to; the events topic of the settings otherwise")] = None,
    control: Annotated[
        bool, typer.Option(help="read `launch` and `drift` from standard input, a JSON line a second; ends with it")
    ] = False,
) -> None:
    """Send the events of a shop that does not exist: sittings, several behaviours, drifting tastes, new items."""
    from producers.shop import Shop
    from producers.synthetic import Synthetic, event_clock

    settings = settings_of(context)
    per_second = parse_factor(rate)
    try:
        known = read_catalogue(catalog) if catalog is not None and catalog.exists() else []
        shop_config = ShopConfig(users=users, items=len(known) or items, seed=seed, impressions=impressions)
    except (CatalogueUnreadable, OSError, ValueError) as error:
        fail(str(error))
    config = settings.librdkafka()
    destination = topic or settings.topics.events[0]
    topics = require_topic(config, destination)
    event_time = event_clock(_wall_ms, time_factor, events if per_second is None else None)
    shop = Shop(shop_config, str(ULID()), event_time(1), known)
    with stop_on_signals() as stop, ProgressLine(events, quiet=control) as progress:
        report = Synthetic(
            shop,
            EventPublisher(config, destination),
            _catalogue_output(config, settings.topics.item_catalog, topics, catalog, known),
            event_time,
            None if per_second is None else SteadyPace(per_second, time.monotonic),
            stop,
            limit=events,
            commands=Commands(sys.stdin.fileno()) if control else None,
            on_status=(lambda status: _tell(status, stop)) if control else (lambda status: _move(progress, status)),
        ).run()
    if not control:
        print(report, flush=True)
    if report.failure is not None:
        say(f"millstream: {report.failure}")
    if stop.exit_code or report.failure is not None:
        raise typer.Exit(stop.exit_code or 1)


def _catalogue_output(
    config: dict[str, str | int | float], topic: str, topics: frozenset[str], path: Path | None, known: list[Item]
) -> "CatalogueOutput":
    from producers.synthetic import CatalogueOutput

    delivery = Delivery(config) if topic in topics else None
    return CatalogueOutput(delivery, topic, path, [item.item_id for item in known])


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _tell(status: "Status", stop: Stop) -> None:
    try:
        print(json.dumps(status), flush=True)
    except BrokenPipeError:
        # The parent has gone: there is nobody to run for, and nothing to flush at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        stop.request()


def _move(progress: ProgressLine, status: "Status") -> None:
    progress.show(
        f"events {status['events']}, acknowledged {status['acknowledged']}, {status['rate']}/s, "
        f"best reachable {status['best_reachable_recent']}",
        float(status["events"] or 0),
    )
