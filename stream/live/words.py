"""Figures as people read them; what is not known is a dash, never a zero."""

from collections.abc import Sequence

UNKNOWN = "-"
_BLOCKS = "▁▂▃▄▅▆▇█"


def whole(number: float | None) -> str:
    """Write a count.

    >>> whole(12345.0)
    '12,345'
    """
    return UNKNOWN if number is None else f"{number:,.0f}"


def share(fraction: float | None, digits: int = 1) -> str:
    """Write a fraction as a percentage.

    >>> share(0.4312), share(None)
    ('43.1%', '-')
    """
    return UNKNOWN if fraction is None else f"{100 * fraction:.{digits}f}%"


def duration(seconds: float | None) -> str:
    """Write a short time.

    >>> duration(0.0084), duration(0.042), duration(3.21), duration(None)
    ('8.4 ms', '42 ms', '3.2 s', '-')
    """
    if seconds is None:
        return UNKNOWN
    if seconds < 0.01:
        return f"{1000 * seconds:.1f} ms"
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def clock(seconds: float) -> str:
    """Write how long something has gone on.

    >>> clock(75), clock(3675)
    ('1:15', '1:01:15')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def sparkline(values: Sequence[float | None], top: float, width: int) -> str:
    """Draw the last values as a line of blocks, from 0 to `top`; gaps stay empty.

    >>> sparkline([0.0, 0.5, None, 1.0], 1.0, 10)
    '▁▅ █'
    """
    drawn = values[-width:] if width > 0 else []
    step = max(top, 1e-9) / len(_BLOCKS)
    return "".join(" " if v is None else _BLOCKS[int(min(len(_BLOCKS) - 1, max(0, v / step)))] for v in drawn)


def bar(fraction: float | None, width: int) -> str:
    """Draw a share of a whole.

    >>> bar(0.5, 4), bar(None, 4)
    ('██░░', '')
    """
    if fraction is None:
        return ""
    full = round(min(1.0, max(0.0, fraction)) * width)
    return "█" * full + "░" * (width - full)


def printable(text: str) -> str:
    r"""Make text from outside safe for a terminal: what would move its cursor is a space.

    >>> printable("Wok\x1b[2J")
    'Wok [2J'
    """
    return "".join(character if character.isprintable() else " " for character in text)
