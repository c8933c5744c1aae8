"""`millstream bench`: what it costs and how quick it is, on a real Apache Kafka of the benchmark's own."""

import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from stream.errors import StartupError
from stream.settings import Settings

app = typer.Typer(help="Benchmarks, on a real Apache Kafka of their own.", no_args_is_help=True)

JsonPath = Annotated[Path | None, typer.Option("--json", help="write the figures as one JSON object")]


@app.command()
def pipeline(
    context: typer.Context,
    file: Annotated[Path | None, typer.Option(help="events to replay; a synthetic stream by default")] = None,
    events: Annotated[int, typer.Option(min=1000, help="events to take")] = 100_000,
    compare: Annotated[bool, typer.Option(help="put the same events through the learner in this process too")] = True,
    kills: Annotated[int, typer.Option(min=0, help="times that the worker is killed and started again")] = 0,
    json_path: JsonPath = None,
) -> None:
    """Events a second scored and learned through Kafka, against the same learner in process."""
    settings: Settings = context.obj
    from stream.benchmarks import pipeline as benchmark
    from stream.benchmarks.rig import synthetic_file, write_json

    _need_psutil()
    with synthetic_file(file, events) as stream:
        result = benchmark.run(settings, stream, events, compare=compare, kills=kills)
    facts = asdict(result)
    write_json(json_path, {**_machine(), **facts})
    rows = [(name, facts[name]) for name in facts if not isinstance(facts[name], dict | list)]
    if result.live_tenths:
        rows.append(("live by tenth", " ".join(f"{rate:.3f}" for rate in result.live_tenths)))
    rows += [(f"hit rate at 20, {arm}", rate) for arm, rate in result.arms.items()]
    rows += [(f"... in the last tenth, {arm}", rate) for arm, rate in result.arms_last.items()]
    if result.in_process is not None:
        rows += [(f"in process: {name}", result.in_process[name]) for name in ("recall", "mrr", "events_per_second")]
        rows.append(("live over in-process recall", result.live / result.in_process["recall"]))
    _print("pipeline", rows)


@app.command()
def latency(
    context: typer.Context,
    rate: Annotated[float, typer.Option(min=1, help="events a second")] = 200,
    seconds: Annotated[float, typer.Option(min=5, help="measured, after ten seconds of warm-up")] = 30,
    json_path: JsonPath = None,
) -> None:
    """Milliseconds from an event's Kafka timestamp to its answer in a consumer's hands, learning on."""
    settings: Settings = context.obj
    from stream.benchmarks import latency as benchmark
    from stream.benchmarks.rig import write_json

    _need_psutil()
    facts = asdict(benchmark.run(settings, rate, seconds))
    write_json(json_path, {**_machine(), **facts})
    _print("latency", list(facts.items()))


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
    from stream.benchmarks.rig import write_json

    torch.set_num_threads(1)  # steps so small are only slowed by more
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("learning", total=events)
        config = benchmark.small(settings.model)
        facts = asdict(benchmark.run(config, events, on_events=lambda n, _: progress.update(task, completed=n)))
    write_json(json_path, {**_machine(), **facts, "settings": config.to_mapping()})
    _print("endless", list(facts.items()))


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
    from stream.benchmarks.rig import write_json

    torch.set_num_threads(1)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("learning", total=events * len(benchmark.SHARES))
        found = benchmark.run(settings.model, items, events, on_events=lambda n: progress.update(task, completed=n))
    write_json(json_path, {**_machine(), "results": [asdict(result) for result in found]})
    table = Table("recent", "scored", "recall@20", "MRR@20", "learned a second", title=f"negatives of {items:,} items")
    for result in found:
        figures = (result.recall, result.mrr)
        speed = f"{result.learned_per_second:,.0f}"
        table.add_row(f"{result.share:.0%}", f"{result.scored:,}", *(f"{figure:.4f}" for figure in figures), speed)
    Console().print(table)


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
    from stream.benchmarks.rig import write_json

    torch.set_num_threads(1)
    sizes = size or benchmark.SIZES
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("learning", total=events * len(sizes))
        found = benchmark.run(settings.model, sizes, events, on_events=lambda n: progress.update(task, completed=n))
    write_json(json_path, {**_machine(), "results": [asdict(result) for result in found]})
    columns = ("recommend, alone", "... of 64", "learn, ms an event", "first answer, s", "shared", "MiB")
    table = Table("items", "scored", *columns, title="catalogue, processor time")
    for result in found:
        milliseconds = (result.recommend_1_ms, result.recommend_64_ms, result.learn_ms)
        figures = [f"{figure:.3f}" for figure in (*milliseconds, result.start_seconds, result.shared)]
        table.add_row(f"{result.n_items:,}", result.way, *figures, f"{result.memory_mib:,.0f}")
    Console().print(table)


@app.command("all")
def all_(context: typer.Context) -> None:
    """Run every benchmark with its defaults."""
    pipeline(context)
    latency(context)


def _print(name: str, rows: list[tuple[str, Any]]) -> None:
    table = Table(title=f"{name} on {_machine()['machine']}", show_header=False, title_justify="left")
    for label, value in rows:
        table.add_row(label, f"{value:,.4g}" if isinstance(value, float) else str(value))
    Console().print(table)


def _machine() -> dict[str, str]:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%MZ")
    return {"machine": f"{os.cpu_count()} cores, {platform.machine()}", "date": now}


def _need_psutil() -> None:
    try:
        import psutil  # noqa: F401
    except ImportError as error:
        raise StartupError("benchmarks need psutil: `make setup` installs it") from error
