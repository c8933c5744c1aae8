"""`millstream replay`: put a recorded stream through a model, predicting each event before it is learned."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.commands.options import (
    Columns,
    JsonPath,
    Key,
    Limit,
    NoRepeats,
    Repeats,
    Seed,
    SessionGap,
    StreamFile,
    Strict,
    TimeUnit,
)
from stream.errors import StartupError
from stream.recorded import (
    Reading,
    Unit,
    check_model,
    default_model,
    model_config,
    need_folder,
    need_matplotlib,
    open_stream,
    parse_setting,
    progress,
    reading,
    refuse_empty,
    warn_of_bad_lines,
)

if TYPE_CHECKING:
    from online_model.config import ModelConfig
    from online_model.evaluation.prequential import Freeze, Outcome
    from online_model.evaluation.sequences import Step
    from online_model.evaluation.streams import EventFile
    from online_model.evaluation.watch import Watch
    from online_model.protocol import Learner


def replay(
    ctx: typer.Context,
    file: StreamFile,
    limit: Limit = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="what predicts and learns [the one that measured best]")
    ] = None,
    json_path: JsonPath = None,
    plot: Annotated[Path | None, typer.Option(help="draw recall over the stream (needs matplotlib)")] = None,
    key: Key = "user_id",
    session_gap: SessionGap = None,
    no_repeats: NoRepeats = False,
    repeats: Repeats = False,
    freeze_at: Annotated[
        float | None, typer.Option(metavar="SHARE", help="compare with a copy that stops learning there, such as 0.5")
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="figures for each value of a column, and their mean")
    ] = None,
    details: Annotated[
        bool, typer.Option("--details", help="make a list for every scored event, and put all figures into --json")
    ] = False,
    columns: Columns = None,
    time_unit: TimeUnit = Unit.AUTO,
    strict: Strict = False,
    model_settings: Annotated[
        list[str] | None, typer.Option("--model-setting", metavar="NAME=VALUE", help="a setting of the model")
    ] = None,
    seed: Seed = None,
    hidden: Annotated[int | None, typer.Option(help="width of the recurrent model")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="threads of torch; 1 makes results exact again")] = None,
) -> None:
    """Put a file through a model in this process, without Kafka: predict each event, then learn from it.

    Reports the live measure: each event against the list that was made when its sequence's previous event arrived.
    With --no-repeats or --repeats that of the literature: each event ranked when it arrives.
    """
    if freeze_at is not None and not 0 < freeze_at < 1:
        raise StartupError(f"--freeze-at must be a share above 0 and below 1, not {freeze_at:g}")
    _check_outputs(json_path, plot)
    how = replace(reading(ctx.obj, key, session_gap, no_repeats, repeats, limit), by=by)
    name = check_model("--model", default_model() if model is None else model)
    given = dict(parse_setting("--model-setting", pair) for pair in model_settings or [])
    given |= {option: value for option, value in (("seed", seed), ("hidden", hidden)) if value is not None}
    given.setdefault("repeats", how.repeats)
    config = model_config(ctx.obj, given)
    steps, events = open_stream(ctx.obj, file, how, columns or [], time_unit, strict)
    outcome, watch = _run(name, config, steps, freeze_at, threads, how, details)
    refuse_empty(file, outcome.events, events)
    warn_of_bad_lines(events)
    _report(outcome, watch, name, config, how, events, json_path, plot)


def _check_outputs(json_path: Path | None, plot: Path | None) -> None:
    """Fail before the work, not after it."""
    for option, path in (("--json", json_path), ("--plot", plot)):
        if path is not None and str(path) != "-":
            need_folder(option, path)
    if plot is not None:
        need_matplotlib("--plot")


def _run(
    model: str,
    config: "ModelConfig",
    read: "Callable[[], Iterator[Step]]",
    freeze_at: float | None,
    threads: int | None,
    how: Reading,
    details: bool,
) -> "tuple[Outcome, Watch | None]":
    import torch

    from online_model.evaluation.prequential import Prequential
    from online_model.evaluation.streams import StreamError
    from online_model.evaluation.watch import Watch
    from online_model.learners import build

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        # Only a share of the stream, its tenths as it goes or a bar on a terminal need to know how long it is.
        counted = freeze_at is not None or details or sys.stderr.isatty()
        n_events = sum(1 for _ in read()) if counted else None
        learner = build(model, config)
        freeze = None if freeze_at is None else _freeze(learner, model, config, round((n_events or 0) * freeze_at))
        watch = Watch(["model"], n_events or 0) if details else None
        with progress(n_events, "predicting, then learning") as on_batch:
            prequential = Prequential(
                learner, config.batch_size, freeze, served=how.served, repeats=how.repeats, watch=watch
            )
            return prequential.run(read(), on_batch), watch
    except (StreamError, ValueError) as error:
        raise StartupError(str(error)) from error


def _freeze(learner: "Learner", model: str, config: "ModelConfig", after: int) -> "Freeze":
    from online_model.evaluation.prequential import Freeze
    from online_model.learners import build

    def copy() -> "Learner":
        frozen = build(model, config)
        frozen.load_state(learner.state())
        return frozen

    return Freeze(after, copy)


def _report(
    outcome: "Outcome",
    watch: "Watch | None",
    model: str,
    config: "ModelConfig",
    how: Reading,
    events: "EventFile",
    json_path: Path | None,
    plot: Path | None,
) -> None:
    from stream.replay_report import ReplayReport

    settings = {**config.to_mapping(), **asdict(how), "time_unit": events.unit}
    report = ReplayReport(outcome, model, settings, events.bad.count, watch)
    try:
        if json_path is not None and str(json_path) != "-":
            report.write_json(json_path)
        if plot is not None:
            report.draw(plot, events.path.name)
    except (OSError, ValueError) as error:
        raise StartupError(f"cannot write the result: {error}") from error
    if str(json_path) == "-":
        print(json.dumps(report.figures()))
    else:
        report.print_table()
