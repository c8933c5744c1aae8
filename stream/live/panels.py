"""The parts of the view: figures, arms, a user."""

from rich import box
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from stream.live.facts import Place, Readings
from stream.live.model import POINT_SECONDS, RECENT_SECONDS, SPEED_SECONDS, LiveState
from stream.live.people import Deed
from stream.live.words import UNKNOWN, bar, duration, printable, share, sparkline, whole

ARM_STYLES = {"live": "bold green", "frozen": "cyan", "nightly": "yellow", "popularity": "magenta"}
_DRIFT_SHOWN_SECONDS = 60.0


def figures(state: LiveState, now: float) -> Panel:
    """Draw how fast and how much."""
    window = state.window
    newest = window.newest or Readings(at=0.0)
    p50, p99 = (window.quantile(lambda r: r.latency, q, RECENT_SECONDS) for q in (0.5, 0.99))
    lost = newest.events.get("rejected", 0.0)
    rows = [
        ("events/s", whole(window.rate(lambda r: sum(r.events.values()), SPEED_SECONDS))),
        ("answered", whole(newest.answers)),
        ("p50", duration(p50)),
        ("p99", duration(p99)),
        ("learned in", duration(window.quantile(lambda r: r.freshness, 0.5, RECENT_SECONDS))),
        ("loss", UNKNOWN if newest.loss is None else f"{newest.loss:.3f}"),
        ("model", f"v{newest.model_version:,}"),
        ("items", whole(newest.vocabulary)),
        ("users", whole(newest.users)),
    ]
    if lost:
        rows[-1] = ("rejected", whole(lost))
    table = Table.grid(expand=True, padding=(0, 1, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for name, figure in rows:
        table.add_row(name, figure)
    silent = state.silent_for(now)
    title = Text("worker") if silent is None else Text(f"worker: silent {silent:.0f} s", style="bold red")
    return Panel(table, title=title, title_align="left", box=box.ROUNDED, border_style="dim", padding=(0, 1))


class Arms:
    """Draws the hit rates of the arms, as wide as there is room."""

    def __init__(self, state: LiveState, now: float) -> None:
        self._state = state
        self._now = now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw into the width that is there."""
        inner = options.max_width - 4
        best = share(self._state.shop.best_reachable_recent)
        yield Panel(
            stacked(*self._arms(inner), self._line("live", inner), self._line("frozen", inner), *self._notes()),
            title=f"hit rate at 20, last {RECENT_SECONDS:.0f} s; best reachable {best}",
            title_align="left",
            box=box.ROUNDED,
            border_style="dim",
            padding=(0, 1),
        )

    def _arms(self, inner: int) -> list[Text]:
        """Draw a line an arm: the rate of now, its share of the best reachable, the rate over all."""
        width = max(4, inner - 33)
        lines = [Text(f"{'':<10}{'now':>7}  {'of the best':<{width}}{'':>5}  {'in all':>7}", style="dim")]
        for arm, style in ARM_STYLES.items():
            rate, of_best = self._state.hit_rate(arm), self._state.share_of_best(arm)
            start = Text.assemble((f"{arm:<10}{share(rate):>7}  ", style))
            if rate is None and (why := self._waits_for(arm)):
                lines.append(start.append(why, style="dim"))
                continue
            start.append(f"{bar(of_best, width):<{width}}", style=style)
            start.append(f"{share(of_best, 0):>5}")
            lines.append(start.append(f"  {share(self._state.window.hit_rate(arm, None)):>7}", style="dim"))
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        return lines

    def _waits_for(self, arm: str) -> str:
        if arm == "frozen":
            return f"copied after {self._state.surroundings.frozen_after:,} examples"
        if arm == "nightly":
            return f"copied every {self._state.surroundings.nightly_seconds:.0f} s"
        return ""

    def _line(self, arm: str, width: int) -> Text:
        values = [getattr(point, arm) for point in self._state.points]
        known = [v for point in self._state.points for v in point if v is not None]
        top = max([self._state.shop.best_reachable_recent or 0.0, *known])
        label = f"{arm:<7}"
        return Text.assemble((label, "dim"), (sparkline(values, top, width - len(label)), ARM_STYLES[arm]))

    def _notes(self) -> list[Text]:
        nightly = f"nightly: a copy refreshed every {self._state.surroundings.nightly_seconds:.0f} s"
        notes = [Text(f"{nightly}; a block is {POINT_SECONDS:.0f} s", style="dim", no_wrap=True, overflow="ellipsis")]
        drifted_at = self._state.drifted_at
        if drifted_at is not None and self._now - drifted_at < _DRIFT_SHOWN_SECONDS:
            notes.append(Text(f"tastes turned over {self._now - drifted_at:.0f} s ago", style="bold yellow"))
        else:
            notes.append(Text(""))
        return notes


def person(state: LiveState, height: int) -> Panel:
    """Draw a user: what they did last, and what they are recommended; both with titles."""
    people, rows = state.people, max(1, height - 3)
    table = Table.grid(expand=True, padding=(0, 1, 0, 0))
    columns: tuple[tuple[int, JustifyMethod], ...] = (
        *((0, "left"), (1, "left"), (0, "left")),
        *((0, "right"), (1, "left"), (0, "right"), (0, "left")),
    )
    for ratio, justify in columns:
        table.add_column(ratio=ratio or None, justify=justify, no_wrap=True, overflow="ellipsis")
    table.add_row("", "did, the newest first", "", "", "is recommended now", "score", "source", style="dim")
    deeds, places = people.deeds()[:rows], people.places()[:rows]
    for row in range(max(len(deeds), len(places))):
        left = _deed(state, deeds[row]) if row < len(deeds) else ("", "", "")
        right = _place(state, row + 1, places[row]) if row < len(places) else ("", "", "", "")
        table.add_row(*left, *right)
    # Text and no plain string: what comes from outside must not be read as rich's markup.
    title = Text("a user" if people.followed is None else f"user {printable(people.followed)}", style="bold")
    return Panel(table, title=title, title_align="left", box=box.ROUNDED, border_style="dim", padding=(0, 1))


def _deed(state: LiveState, deed: Deed) -> tuple[Text, Text, Text]:
    foreseen = "" if deed.rank is None else f"was no. {deed.rank}"
    behavior = Text(printable(deed.behavior), style="dim")
    return behavior, Text(printable(state.title(deed.item_id))), Text(foreseen, style="green")


def _place(state: LiveState, rank: int, place: Place) -> tuple[Text, Text, Text, Text]:
    score = Text(f"{place.score:.2f}", style="dim")
    source = Text(printable(place.source), style="dim")
    return Text(str(rank), style="dim"), Text(printable(state.title(place.item_id))), score, source


def stacked(*parts: RenderableType) -> Table:
    """Put parts below each other."""
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True)
    for part in parts:
        grid.add_row(part)
    return grid
