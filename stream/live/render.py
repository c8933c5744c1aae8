"""The whole view: state in, something that rich can draw out."""

from rich.console import Console, ConsoleOptions, RenderResult
from rich.layout import Layout
from rich.text import Text

from stream.live.model import LiveState
from stream.live.panels import Arms, figures, person, stacked
from stream.live.words import clock, duration, printable

TOP_ROWS = 11
FIGURES_COLUMNS = 26
NARROW_COLUMNS = 70
"""Below, the figures stand above the arms, and not beside them."""
LOW_ROWS = 20
"""Below, there is no room for where to look next."""
_KEYS = (("n", "new item"), ("t", "turn tastes over"), ("u", "another user"), ("q", "quit"))


class View:
    """Draws a state at one moment into whatever room there is.

    Args:
        state: What is known.
        now: The moment, on the view's clock.
    """

    def __init__(self, state: LiveState, now: float) -> None:
        self._state = state
        self._now = now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw into the room that is there."""
        width, height = options.max_width, options.height or console.height
        narrow = width < NARROW_COLUMNS
        where = [] if height < LOW_ROWS else self._where()
        top_rows = 2 * TOP_ROWS if narrow else TOP_ROWS
        user_rows = max(3, height - top_rows - len(where) - 3)
        layout = Layout()
        layout.split_column(
            Layout(self._header(), size=1),
            self._top(narrow, top_rows),
            Layout(person(self._state, user_rows), size=user_rows),
            Layout(self._news(), size=1),
            *([Layout(stacked(*where), size=len(where))] if where else []),
            Layout(_keys(), size=1),
        )
        yield from console.render(layout, options.update(height=height))

    def _header(self) -> Text:
        around = self._state.surroundings
        up = clock(self._now - self._state.started)
        text = Text.assemble(
            (" millstream ", "bold reverse"),
            f"  {around.broker}",
            ("  " + around.limits if around.limits else "", "yellow"),
        )
        text.append(f"  {up}", style="dim")
        return _one_line(text)

    def _top(self, narrow: bool, rows: int) -> Layout:
        top = Layout(size=rows)
        left, right = Layout(figures(self._state, self._now)), Layout(Arms(self._state, self._now))
        if narrow:
            top.split_column(left, right)
        else:
            left.size = FIGURES_COLUMNS
            top.split_row(left, right)
        return top

    def _news(self) -> Text:
        state = self._state
        if state.trouble is not None:
            return _one_line(Text(f" {printable(state.trouble)}", style="red"))
        if (launch := state.launch) is None:
            return _one_line(
                Text(" every event is answered, and learned by the model that answers the next one", style="dim")
            )
        title = printable(launch.title)
        if launch.seconds is None:
            return _one_line(Text(f" launched {title}: nobody was recommended it yet", style="yellow"))
        return _one_line(
            Text.assemble(f" launched {title}: ", (f"first recommended after {duration(launch.seconds)}", "bold green"))
        )

    def _where(self) -> list[Text]:
        around = self._state.surroundings
        kept = "kept" if around.is_kept else "temporary"
        topics = f"{around.events_topic} → {around.recommendations_topic}, {around.rejected_topic}"
        lines = [
            f" Kafka {around.bootstrap}  {topics}",
            f" metrics {around.metrics_url}  data {around.folder} ({kept})",
            f" MILLSTREAM_KAFKA__BOOTSTRAP_SERVERS={around.bootstrap} millstream tail {around.recommendations_topic}",
        ]
        return [_one_line(Text(line, style="dim")) for line in lines]


def _keys() -> Text:
    parts: list[tuple[str, str] | str] = []
    for key, meaning in _KEYS:
        parts += [(f" {key} ", "reverse"), f" {meaning}  "]
    return _one_line(Text.assemble(" ", *parts))


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
