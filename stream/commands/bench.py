"""`millstream bench`: what it costs and how quick it is, on a real Apache Kafka of the benchmark's own."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from stream.benchmarks.record import conclude, machine, write_json
from stream.errors import StartupError
from stream.settings import Settings

app = typer.Typer(help="Benchmarks, on a real Apache Kafka of their own.", no_args_is_help=True)

JsonPath = Annotated[Path | None, typer.Option("--json", metavar="PATH|-", help="write the figures as one JSON object")]
RecordFolder = Annotated[
    Path | None,
    typer.Option(
        "--record",
        metavar="DIR",
        help="where runs are kept, to compare the next one with [$XDG_STATE_HOME/millstream/benchmarks]",
    ),
]
Repetitions = Annotated[int, typer.Option(min=1, help="times that it is measured; the table shows medians")]


@app.command()
def pipeline(
    context: typer.Context,
    file: Annotated[Path | None, typer.Option(help="events to replay; a synthetic stream by default")] = None,
    events: Annotated[int, typer.Option(min=1000, help="events to take")] = 100_000,
    compare: Annotated[bool, typer.Option(help="put the same events through the learner in this process too")] = True,
    kills: Annotated[int, typer.Option(min=0, help="times that the worker is killed and started again")] = 0,
    repetitions: Repetitions = 3,
    json_path: JsonPath = None,
    record: RecordFolder = None,
) -> None:
    """Events a second scored and learned through Kafka, against the same learner in process."""
    from stream.benchmarks import pipeline as benchmark

    _need_psutil()
    settings: Settings = context.obj
    conclude(benchmark.measure(settings, file, events, repetitions, compare, kills), settings, json_path, record)


@app.command()
def latency(
    context: typer.Context,
    rate: Annotated[list[float] | None, typer.Option(min=1, help="events a second [200 500 1000 2000]")] = None,
    capacity: Annotated[bool, typer.Option(help="also at 80% of what the worker can do, measured first")] = True,
    seconds: Annotated[float, typer.Option(min=5, help="measured at each rate, after five seconds of warm-up")] = 30,
    repetitions: Repetitions = 3,
    json_path: JsonPath = None,
    record: RecordFolder = None,
) -> None:
    """Milliseconds from an event's Kafka timestamp to its answer in a consumer's hands, and where they go."""
    from stream.benchmarks import latency as benchmark

    _need_psutil()
    settings: Settings = context.obj
    measured = benchmark.measure(settings, rate or list(benchmark.RATES), capacity, seconds, repetitions)
    conclude(measured, settings, json_path, record)


@app.command()
def freshness(
    context: typer.Context,
    trials: Annotated[int, typer.Option(min=1, help="new items that are taught, one after the other")] = 40,
    teachers: Annotated[int, typer.Option(min=1, help="people who view a new item at the same moment")] = 3,
    events: Annotated[float, typer.Option(min=1, help="events a second that flow meanwhile")] = 500,
    repetitions: Repetitions = 3,
    json_path: JsonPath = None,
    record: RecordFolder = None,
) -> None:
    """Milliseconds from an event to another user's list that has changed because of it."""
    from stream.benchmarks import freshness as benchmark

    _need_psutil()
    settings: Settings = context.obj
    conclude(benchmark.measure(settings, trials, teachers, events, repetitions), settings, json_path, record)


@app.command()
def lookup(
    context: typer.Context,
    rate: Annotated[float, typer.Option(min=1, help="requests a second of the steady client")] = 1000,
    events: Annotated[float, typer.Option(min=1, help="events a second that flow meanwhile")] = 500,
    seconds: Annotated[float, typer.Option(min=1, help="measured in each of the two ways")] = 20,
    connections: Annotated[int, typer.Option(min=1, help="kept connections")] = 16,
    repetitions: Repetitions = 3,
    json_path: JsonPath = None,
    record: RecordFolder = None,
) -> None:
    """`GET /recommendations/{user}`: at a steady rate and flat out, while events flow and the model learns."""
    from stream.benchmarks import lookup as benchmark

    _need_psutil()
    settings: Settings = context.obj
    measured = benchmark.measure(settings, rate, events, seconds, connections, repetitions)
    conclude(measured, settings, json_path, record)


@app.command()
def profile(
    context: typer.Context,
    rate: Annotated[float, typer.Option(min=1, help="events a second")] = 500,
    lookups: Annotated[float, typer.Option(min=0, help="look-ups a second beside them")] = 0,
    seconds: Annotated[int, typer.Option(min=1, help="recorded")] = 30,
    svg: Annotated[Path | None, typer.Option(help="draw a flame graph into this file, of a second recording")] = None,
    repetitions: Repetitions = 1,
    json_path: JsonPath = None,
    record: RecordFolder = None,
) -> None:
    """Where the time of the worker and its trainer goes: by stage and by function, with py-spy."""
    from stream.benchmarks import profile as benchmark

    _need_psutil()
    settings: Settings = context.obj
    conclude(benchmark.measure(settings, rate, lookups, seconds, svg, repetitions), settings, json_path, record)


@app.command()
def endless(
    context: typer.Context,
    events: Annotated[int, typer.Option(min=100_000, help="length of the stream")] = 20_000_000,
    json_path: JsonPath = None,
) -> None:
    """Events until recall is back after all relations between items changed, early and late in a long stream.

    Relations change after a twentieth of the stream and a twentieth before its end. In process, without Kafka.
    """
    settings: Settings = context.obj
    import torch
    from rich.progress import Progress

    from stream.benchmarks import endless as benchmark

    torch.set_num_threads(1)  # steps so small are only slowed by more
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("learning", total=events)
        config = benchmark.small(settings.model)
        facts = asdict(benchmark.run(config, events, on_events=lambda n, _: progress.update(task, completed=n)))
    console = write_json(json_path, {**_machine(), **facts, "settings": config.to_mapping()})
    _print(console, "endless", list(facts.items()))


@app.command()
def negatives(
    context: typer.Context,
    items: Annotated[int, typer.Option(min=1000, help="size of the catalogue")] = 50_000,
    events: Annotated[int, typer.Option(min=10_000, help="length of the stream, for each share")] = 500_000,
    json_path: JsonPath = None,
) -> None:
    """Recall with negatives drawn uniformly, and with a share of them drawn from the latest targets.

    A synthetic catalogue of very unequal popularity; in process, without Kafka, the first stage alone.
    """
    settings: Settings = context.obj
    import torch
    from rich.progress import Progress

    from stream.benchmarks import negatives as benchmark

    torch.set_num_threads(1)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("learning", total=events * len(benchmark.SHARES))
        found = benchmark.run(settings.model, items, events, on_events=lambda n: progress.update(task, completed=n))
    console = write_json(json_path, {**_machine(), "results": [asdict(result) for result in found]})
    table = Table("recent", "scored", "recall@20", "MRR@20", "learned a second", title=f"negatives of {items:,} items")
    for result in found:
        figures = (result.recall, result.mrr)
        speed = f"{result.learned_per_second:,.0f}"
        table.add_row(f"{result.share:.0%}", f"{result.scored:,}", *(f"{figure:.4f}" for figure in figures), speed)
    console.print(table)


@app.command()
def intake(
    context: typer.Context,
    events: Annotated[
        int, typer.Option(min=1000, help="events in the topic; slow rivals take the first of them")
    ] = 200_000,
    users: Annotated[int, typer.Option(min=1, help="whose events they are")] = 20_000,
    batch: Annotated[int, typer.Option(min=1, help="events taken at once, by all but naive Faust")] = 1000,
    repetitions: Repetitions = 3,
    json_path: JsonPath = None,
    record: RecordFolder = None,
) -> None:
    """Events a second, and for each CPU second, around the model: ours, the bare client, Faust as it comes."""
    from stream.benchmarks import intake as benchmark

    _need_psutil()
    settings: Settings = context.obj
    conclude(benchmark.measure(settings, events, users, batch, repetitions), settings, json_path, record)


@app.command()
def recovery(
    context: typer.Context,
    users: Annotated[int, typer.Option(min=1000, help="users in state")] = 500_000,
    updates: Annotated[bool, typer.Option(help="see the broker compact many updates of few users, too")] = True,
    repetitions: Repetitions = 3,
    json_path: JsonPath = None,
    record: RecordFolder = None,
) -> None:
    """Seconds until all users' states are in memory, against a bare read of the same log; bytes that a user takes."""
    from stream.benchmarks import recovery as benchmark

    _need_psutil()
    settings: Settings = context.obj
    conclude(benchmark.measure(settings, users, repetitions, updates=updates), settings, json_path, record)


@app.command()
def restart(
    context: typer.Context,
    users: Annotated[int, typer.Option(min=1000, help="users in state")] = 100_000,
    items: Annotated[int, typer.Option(min=100, help="items in the shop that it is trained on")] = 20_000,
    events: Annotated[int, typer.Option(min=1000, help="events that it is trained on")] = 60_000,
    kills: Annotated[int, typer.Option(min=1, help="times that the worker is killed; the median counts")] = 3,
    json_path: JsonPath = None,
    record: RecordFolder = None,
) -> None:
    """Seconds from SIGKILL of the worker to the first answer of its successor, and where they go."""
    from stream.benchmarks import restart as benchmark

    _need_psutil()
    settings: Settings = context.obj
    conclude(benchmark.measure(settings, users, items, events, kills), settings, json_path, record)


@app.command()
def churn(
    context: typer.Context,
    capacity: Annotated[int, typer.Option(min=500, help="users and items that there is room for")] = 2_000,
    turnovers: Annotated[int, typer.Option(min=2, help="times that all of them are replaced")] = 10,
    json_path: JsonPath = None,
    record: RecordFolder = None,
) -> None:
    """Memory of worker and trainer while users and items turn over again and again."""
    from stream.benchmarks import churn as benchmark

    _need_psutil()
    settings: Settings = context.obj
    conclude(benchmark.measure(settings, capacity, turnovers), settings, json_path, record)


@app.command()
def guard(
    context: typer.Context,
    file: Annotated[Path | None, typer.Option(help="events to replay; a synthetic stream by default")] = None,
    events: Annotated[int, typer.Option(min=1000, help="events to take")] = 60_000,
    poison: Annotated[
        list[str] | None, typer.Option(help="none, season, flood, noise, half, slow or ids; several may be given")
    ] = None,
    key: Annotated[str, typer.Option(metavar="COLUMN", help="the column that sequences are kept for")] = "user_id",
    json_path: JsonPath = None,
) -> None:
    """What the guard of learning finds in streams that are spoilt on purpose, and in those that are not: false alarms.

    Streams are spoilt from the half of them to seven tenths. In process, without Kafka, with real checkpoints.
    """
    settings: Settings = context.obj
    import tempfile

    import torch

    from stream.benchmarks import guard as benchmark
    from stream.benchmarks.poisons import POISONS
    from stream.benchmarks.rig import synthetic_file
    from stream.recorded import progress

    wanted = poison or list(POISONS)
    if strangers := set(wanted) - set(POISONS):
        raise StartupError(f"--poison must be one of {', '.join(POISONS)}, not {min(strangers)!r}")
    torch.set_num_threads(1)
    found = []
    with synthetic_file(file, events) as stream:
        for name in wanted:
            with tempfile.TemporaryDirectory() as folder, progress(None, name) as on_events:
                at = Path(folder)
                found.append(benchmark.run(settings, stream, events, name, at, key=key, on_events=on_events))
    console = write_json(
        json_path, {**_machine(), "file": file and file.name, "results": [asdict(result) for result in found]}
    )
    for result in found:
        _print(console, f"guard, poison {result.poison}", list(asdict(result).items())[1:])


@app.command()
def overload(
    context: typer.Context,
    times: Annotated[float, typer.Option(min=1, help="the measured capacity, so many times")] = 10,
    seconds: Annotated[float, typer.Option(min=5, help="how long it lasts")] = 60,
    json_path: JsonPath = None,
) -> None:
    """What gives way at ten times the capacity for a minute, and how long until all is as before."""
    settings: Settings = context.obj
    from stream.benchmarks import overload as benchmark

    _need_psutil()
    facts = asdict(benchmark.run(settings, times, seconds))
    console = write_json(json_path, {**_machine(), **facts})
    _print(console, "overload", list(facts.items()))


@app.command()
def catalogue(
    context: typer.Context,
    size: Annotated[list[int] | None, typer.Option(min=100, help="items, once for each size")] = None,
    events: Annotated[int, typer.Option(min=1_000, help="learned before the measurement, at each size")] = 100_000,
    json_path: JsonPath = None,
) -> None:
    """Cost of an event by size of the catalogue: answered and learned, all of it scored and with the index."""
    settings: Settings = context.obj
    import torch
    from rich.progress import Progress

    from stream.benchmarks import catalogue as benchmark

    torch.set_num_threads(1)
    sizes = size or benchmark.SIZES
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("learning", total=events * len(sizes))
        found = benchmark.run(settings.model, sizes, events, on_events=lambda n: progress.update(task, completed=n))
    console = write_json(json_path, {**_machine(), "results": [asdict(result) for result in found]})
    columns = ("recommend, alone", "... of 64", "learn, ms an event", "first answer, s", "shared", "recall@20", "MiB")
    table = Table("items", "scored", *columns, title="catalogue, processor time")
    for result in found:
        milliseconds = (result.recommend_1_ms, result.recommend_64_ms, result.learn_ms)
        figures = [f"{figure:.3f}" for figure in (*milliseconds, result.start_seconds, result.shared, result.recall)]
        table.add_row(f"{result.n_items:,}", result.way, *figures, f"{result.memory_mib:,.0f}")
    console.print(table)


@app.command("all")
def all_(context: typer.Context) -> None:
    """Run every benchmark of a worker with its defaults."""
    for command in (intake, pipeline, latency, freshness, lookup, recovery, restart, profile):
        command(context)


def _print(console: Console, name: str, rows: list[tuple[str, Any]]) -> None:
    table = Table(title=f"{name} on {machine()}", show_header=False, title_justify="left")
    for label, value in rows:
        table.add_row(label, f"{value:,.4g}" if isinstance(value, float) else str(value))
    console.print(table)


def _machine() -> dict[str, str]:
    return {"machine": machine(), "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%MZ")}


def _need_psutil() -> None:
    try:
        import psutil  # noqa: F401
    except ImportError as error:
        raise StartupError("benchmarks need psutil: `make setup` installs it") from error
