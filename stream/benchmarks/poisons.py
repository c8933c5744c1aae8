"""Streams that are spoilt on purpose, and one that only changes: what a guard should find, and what not."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from online_model.evaluation.streams import StreamEvent

POISONED = "poisoned"
"""Group of the events that are no one's doing."""

FLOOD_PER_EVENT = 3
_KNOWN = 20_000

Poison = Callable[[Iterable[StreamEvent], int, int, np.random.Generator], Iterator[StreamEvent]]
"""Takes a stream, the places of its first and after its last event to spoil, and a source of chance."""


def clean(events: Iterable[StreamEvent], start: int, end: int, chance: np.random.Generator) -> Iterator[StreamEvent]:
    """Leave everything as it is."""
    yield from events


def flood(events: Iterable[StreamEvent], start: int, end: int, chance: np.random.Generator) -> Iterator[StreamEvent]:
    """One item, shown again and again: visitors who come once, look at what somebody else looks at, and then at it."""
    for place, event in enumerate(events):
        yield event
        if not start <= place < end:
            continue
        for number in range(FLOOD_PER_EVENT):
            key = f"visitor-{place}-{number}"
            yield replace(event, key=key, group=POISONED)
            yield replace(event, key=key, item="the-one-item", group=POISONED)


def noise(events: Iterable[StreamEvent], start: int, end: int, chance: np.random.Generator) -> Iterator[StreamEvent]:
    """Every event has a random item out of those of late."""
    yield from _spoilt(events, chance, lambda place: start <= place < end)


def half(events: Iterable[StreamEvent], start: int, end: int, chance: np.random.Generator) -> Iterator[StreamEvent]:
    """Every second event has one, and it does not end."""
    yield from _spoilt(events, chance, lambda place: place >= start and chance.random() < 0.5)


def slow(events: Iterable[StreamEvent], start: int, end: int, chance: np.random.Generator) -> Iterator[StreamEvent]:
    """More and more events have one: from none at the start to all of them after three times the span."""
    span = 3 * (end - start)
    yield from _spoilt(events, chance, lambda place: place >= start and chance.random() < (place - start) / span)


def ids(events: Iterable[StreamEvent], start: int, end: int, chance: np.random.Generator) -> Iterator[StreamEvent]:
    """Every event has an id that nobody has seen and nobody will see again."""
    for place, event in enumerate(events):
        inside = start <= place < end
        yield replace(event, item=f"id-{place}", group=POISONED) if inside else event


def season(events: Iterable[StreamEvent], start: int, end: int, chance: np.random.Generator) -> Iterator[StreamEvent]:
    """No poison: from the start on people do with every item what they did with another one. It does not end."""
    known: dict[str, None] = {}
    others: dict[str, str] = {}
    for place, event in enumerate(events):
        if event.item is None:
            yield event
        elif place < start:
            known[event.item] = None
            yield event
        else:
            names = list(known) if not others else []
            others = others or {names[at]: names[to] for at, to in enumerate(chance.permutation(len(names)))}
            yield replace(event, item=others.get(event.item, event.item))


def _spoilt(
    events: Iterable[StreamEvent], chance: np.random.Generator, chosen: Callable[[int], bool]
) -> Iterator[StreamEvent]:
    known: list[str] = []
    for place, event in enumerate(events):
        if known and chosen(place):
            yield replace(event, item=known[int(chance.integers(len(known)))], group=POISONED)
            continue
        if event.item is not None:
            if len(known) < _KNOWN:
                known.append(event.item)
            else:
                known[place % _KNOWN] = event.item
        yield event


POISONS: dict[str, Poison] = {
    "none": clean,
    "season": season,
    "flood": flood,
    "noise": noise,
    "half": half,
    "slow": slow,
    "ids": ids,
}
