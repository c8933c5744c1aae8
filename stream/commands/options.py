"""Options that several offline commands share."""

from pathlib import Path
from typing import Annotated

import typer

from stream.recorded import Unit

StreamFile = Annotated[Path, typer.Argument(help="CSV or JSON lines (.gz too), in the order of time")]
Limit = Annotated[int | None, typer.Option(min=1, help="events of the stream to take at most")]
Key = Annotated[str, typer.Option(metavar="COLUMN", help="the column that sequences are kept for")]
SessionGap = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", help="a longer pause starts a new sequence [1800; none with --no-repeats or --repeats]"
    ),
]
NoRepeats = Annotated[
    bool, typer.Option("--no-repeats", help="leave events out that repeat their sequence's previous item")
]
Repeats = Annotated[bool, typer.Option("--repeats", help="score such events too, and rank the item that a user is on")]
Columns = Annotated[
    list[str] | None, typer.Option("--map", metavar="COLUMN=FIELD", help="a column that is named differently")
]
TimeUnit = Annotated[Unit, typer.Option(help="what the time column counts")]
Strict = Annotated[bool, typer.Option("--strict", help="stop at a broken line instead of skipping it")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="MODEL.SETTING=VALUE", help="a setting of one model")
]
JsonPath = Annotated[Path | None, typer.Option("--json", metavar="PATH|-", help="write the figures as one JSON object")]
Threads = Annotated[int, typer.Option(min=1, help="threads of torch; 1 makes results exact again")]
Seed = Annotated[int | None, typer.Option(help="of all random numbers")]
