"""Markdown that can be read as text too."""

from collections.abc import Iterable, Mapping, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose columns line up.

    >>> print(table(["model", "n"], [["gru", "3"]]))
    | model | n |
    |-------|---|
    | gru   | 3 |
    """
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    padded = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([padded[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *padded[1:]])


def interval(gain: Mapping[str, float]) -> str:
    """Return a difference with its interval as text.

    >>> interval({"difference": 0.0123, "low": -0.001, "high": 0.02})
    '+0.0123 (-0.0010 to +0.0200)'
    """
    return f"{gain['difference']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})"
