"""`millstream tail`: the records of a topic, readable, as they come."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from confluent_kafka import Message

from stream.rendering import Shown, as_line, as_object
from stream.settings import Settings
from stream.topics.reading import TopicReader, as_bytes, headers_of


def tail(
    context: typer.Context,
    topic: Annotated[str, typer.Argument(help="a topic's name, or its plain one such as training-examples")],
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="all there is, then what comes")] = False,
    n: Annotated[int, typer.Option("-n", "--lines", min=0, max=100_000, help="begin with the last N records")] = 0,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="wait for more")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="an object a record, nothing left out")] = False,
) -> None:
    """Show the records of a topic as they come; Ctrl-C ends it."""
    settings: Settings = context.obj
    try:
        with TopicReader(settings, topic) as reader:
            for message in records(reader, from_beginning, n, follow):
                print_record(shown(message), as_json)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`); what is still buffered must not complain at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def records(reader: TopicReader, from_beginning: bool, n: int, follow: bool) -> Iterator[Message]:
    """Yield what is asked for: from the beginning, or the last `n` by their time; then what comes."""
    bounds = reader.bounds()
    ends = {partition: end for partition, (_, end) in bounds.items()}
    if from_beginning:
        yield from reader.read_to_end({partition: low for partition, (low, _) in bounds.items()}, ends)
    elif n:
        starts = {partition: max(low, end - n) for partition, (low, end) in bounds.items()}
        last = sorted(reader.read_to_end(starts, ends), key=lambda m: (m.timestamp()[1], m.partition(), m.offset()))
        yield from last[-n:]
    if follow:
        yield from (message for message in reader.follow(ends) if message is not None)


def shown(message: Message) -> Shown:
    """Take what can be shown from a consumed message."""
    return Shown(
        topic=str(message.topic()),
        partition=int(message.partition() or 0),
        offset=int(message.offset() or 0),
        timestamp=int(message.timestamp()[1]),
        key=as_bytes(message.key()),
        value=as_bytes(message.value()),
        headers=headers_of(message),
    )


def print_record(record: Shown, as_json: bool) -> None:
    """Print a record on a line of its own; on a terminal the line is cut to its width."""
    if as_json:
        line = json.dumps(as_object(record), ensure_ascii=False)
    else:
        line = as_line(record, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)
    sys.stdout.write(line.encode("utf-8", "backslashreplace").decode() + "\n")
    sys.stdout.flush()
