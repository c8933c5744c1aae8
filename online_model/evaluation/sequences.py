"""From a stream of events to contexts and examples: who has done what before, and in which sitting."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from online_model.evaluation.streams import StreamEvent
from online_model.lessons import TARGETS
from online_model.protocol import Context, Example, Role, Visit

Unscored: TypeAlias = Literal["first", "repeat", "role"]

KEPT = 20
"""Visits that a context holds, as in the live system."""


@dataclass(frozen=True, slots=True)
class Step:
    """An event as the learner meets it.

    Attributes:
        example: What stood before it, and what happened.
        unscored: Why it is not scored; None when it is.
        key: Whose sequence it is.
        visit: What it adds to that sequence; None where it adds nothing.
        group: What figures are told by.
    """

    example: Example
    unscored: Unscored | None
    key: str = ""
    visit: Visit | None = None
    group: str = ""

    def context_after(self) -> Context:
        """Return what the next list of this sequence is made from.

        Raises:
            ValueError: The event adds nothing to it.
        """
        if self.visit is None:
            raise ValueError("the event adds nothing to its sequence")
        before = self.example.context
        history = (*before.history, self.visit)
        surplus = max(0, len(history) - KEPT)
        return Context(history[surplus:], max(0, before.sitting - surplus), self.visit[2])


class Sequences:
    """A fold over a stream that keeps what each key did last.

    An event is scored when its role is that of a target, when it is not the first of its sitting, and when it is not
    the item just before it: the live measure's definition.
    """

    def __init__(
        self,
        roles: Mapping[str, tuple[str, Role]],
        gap_ms: int | None,
        *,
        drop_repeats: bool = False,
        refuse: Callable[[int, str], None] = lambda line, reason: None,
    ) -> None:
        """Start with no histories.

        Args:
            roles: Name and role of each behaviour.
            gap_ms: A longer pause of a key starts a new sitting; None for never.
            drop_repeats: Leave events out of the stream that repeat the item just before them in their sitting.
            refuse: Told the line of an event that cannot be used, and why.
        """
        self._roles = roles
        self._gap_ms = gap_ms
        self._drop_repeats = drop_repeats
        self._visits: dict[str, list[Visit]] = {}
        self._sittings: dict[str, int] = {}
        self._latest: dict[str, int] = {}
        self._refuse = refuse

    def follow(self, events: Iterable[StreamEvent]) -> Iterator[Step]:
        """Yield a step for each event that is in the stream, in order."""
        for event in events:
            step = self._advance(event)
            if step is not None:
                yield step

    def _advance(self, event: StreamEvent) -> Step | None:
        if event.behavior not in self._roles:
            self._refuse(event.line, f"unknown behavior {event.behavior!r}")
            return None
        behavior, role = self._roles[event.behavior]
        if event.item is None and (role in TARGETS or role == "negative"):
            self._refuse(event.line, f"a {behavior} needs an item_id")
            return None
        visits = self._visits.setdefault(event.key, [])
        if self._pauses(event):
            self._sittings[event.key] = len(visits)
        sitting = self._sittings.get(event.key, 0)
        repeat = len(visits) > sitting and visits[-1][0] == event.item
        if repeat and self._drop_repeats:
            return None
        visit = (event.item, behavior, event.time) if role in TARGETS and event.item is not None else None
        step = Step(
            Example(Context(tuple(visits), sitting, event.time), event.item, role),
            _unscored(role, visits, sitting, repeat),
            event.key,
            visit,
            event.group,
        )
        if visit is not None:
            self._visit(event.key, visit)
        return step

    def _pauses(self, event: StreamEvent) -> bool:
        latest = self._latest.get(event.key)
        self._latest[event.key] = event.time
        return latest is not None and self._gap_ms is not None and event.time - latest > self._gap_ms

    def _visit(self, key: str, visit: Visit) -> None:
        visits = self._visits[key]
        visits.append(visit)
        if len(visits) > KEPT:
            del visits[0]
            self._sittings[key] = max(0, self._sittings.get(key, 0) - 1)


def _unscored(role: Role, visits: list[Visit], sitting: int, repeat: bool) -> Unscored | None:
    if role not in TARGETS:
        return "role"
    if len(visits) <= sitting:
        return "first"
    return "repeat" if repeat else None
