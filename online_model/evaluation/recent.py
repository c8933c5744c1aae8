"""The most recent events of a file, in the order of time, whatever the order and the length of the file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter

from online_model.evaluation.guess import Guess
from online_model.evaluation.streams import BadLines, StreamEvent
from online_model.evaluation.tables import Row, Table
from online_model.lessons import TARGETS
from online_model.protocol import Role

OTHER_BEHAVIOR = "view"
"""What is counted for a behaviour that is not known, and where no column tells any."""

_MOST_NAMED = 5
_MOST_CHARACTERS = 256
_N_EXAMPLES = 5
_MOST_SHARED = 1_000_000


@dataclass(slots=True)
class Recent:
    """Events of a file.

    Attributes:
        events: The most recent, oldest first; of those at the same time, in the order of the file.
        n_events: Events in the file.
        n_disordered: Of them, those that stood before an earlier one's line in time.
        unknown: Behaviours that are not known, the first few.
        bad: Lines that are no events.
    """

    events: list[StreamEvent] = field(default_factory=list)
    n_events: int = 0
    n_disordered: int = 0
    unknown: dict[str, None] = field(default_factory=dict)
    bad: BadLines = field(default_factory=BadLines)


def recent_events(table: Table, guess: Guess, roles: Mapping[str, tuple[str, Role]], limit: int) -> Recent:
    """Read a file once; never more than twice `limit` events are held.

    Args:
        table: The file.
        guess: How it is read.
        roles: Name and role of each behaviour that is known.
        limit: Events to keep.

    Raises:
        StreamError: It cannot be read to its end.
    """
    recent = Recent()
    reader = _Reader(table, guess, roles, recent.unknown)
    latest = 0
    for line, row in table.rows():
        try:
            event = reader.event(line, row)
        except ValueError as error:
            recent.bad.count += 1
            if len(recent.bad.first) < _N_EXAMPLES:
                recent.bad.first.append(f"line {line}: {error}")
            continue
        recent.n_events += 1
        recent.n_disordered += event.time < latest
        latest = max(latest, event.time)
        recent.events.append(event)
        if len(recent.events) >= 2 * limit:
            _keep(recent.events, limit)
    _keep(recent.events, limit)
    return recent


def _keep(events: list[StreamEvent], limit: int) -> None:
    events.sort(key=attrgetter("time"))  # stable
    del events[: max(0, len(events) - limit)]


class _Reader:
    """Makes events of rows."""

    def __init__(
        self, table: Table, guess: Guess, roles: Mapping[str, tuple[str, Role]], unknown: dict[str, None]
    ) -> None:
        place = {name: table.columns.index(column) for name, column in guess.columns.items()}
        self._user, self._item, self._time = place["user_id"], place["item_id"], place["timestamp"]
        self._behavior = place.get("behavior", -1)
        self._format = guess.time
        self._roles = roles
        self._unknown = unknown
        # Millions of lines share thousands of ids.
        self._texts: dict[str, str] = {}

    def event(self, line: int, row: Row | str) -> StreamEvent:
        """Make an event of a row.

        Raises:
            ValueError: It makes none.
        """
        if isinstance(row, str):
            raise ValueError(row)
        behavior, role = self._known(row)
        item = self._id(row[self._item], "item")
        if item is None and (role in TARGETS or role == "negative"):
            raise ValueError(f"no item for a {behavior}")
        user = self._id(row[self._user], "user")
        if user is None:
            raise ValueError("no user")
        return StreamEvent(line, user, item, behavior, self._format.milliseconds(row[self._time]))

    def _known(self, row: Row) -> tuple[str, Role]:
        name = "" if self._behavior < 0 else str(row[self._behavior] or "").strip()
        known = self._roles.get(name) or self._roles.get(name.lower())
        if known is not None:
            return known
        if name and len(self._unknown) <= _MOST_NAMED:
            self._unknown[name] = None
        return self._roles[OTHER_BEHAVIOR]

    def _id(self, value: object, name: str) -> str | None:
        if isinstance(value, float) and value.is_integer():
            # Columnar files hold whole numbers as floats where some are missing.
            value = int(value)
        if value is None or value == "":
            return None
        text = value if isinstance(value, str) else str(value)
        if (known := self._texts.get(text)) is not None:
            return known
        if not isinstance(value, str | int) or isinstance(value, bool) or len(text) > _MOST_CHARACTERS:
            raise ValueError(f"{name} must be text of 1 to {_MOST_CHARACTERS} characters, not {value!r:.80}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{name} is not valid UTF-8") from error
        # Known ids are shared; a flood of them is not kept beyond the events that hold them.
        if len(self._texts) < _MOST_SHARED:
            self._texts[text] = text
        return text
