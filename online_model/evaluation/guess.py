"""Which columns of somebody's file say who did what to which item and when, told by names and by values."""

import random
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from online_model.evaluation.streams import StreamError, StreamEvent
from online_model.evaluation.times import TimeFormat, Unit, guess_format

Field: TypeAlias = Literal["user_id", "item_id", "behavior", "timestamp"]

FIELDS: tuple[Field, ...] = ("user_id", "item_id", "behavior", "timestamp")
REQUIRED: tuple[Field, ...] = ("timestamp", "user_id", "item_id")
N_SAMPLE = 5_000

# Best first: where a file has both, sequences are kept for users, and pauses cut them.
_NAMES: Mapping[Field, tuple[str, ...]] = {
    "user_id": (
        *("user", "uid", "visitor", "customer", "client", "member", "account", "reader", "listener", "subscriber"),
        *("person", "reviewer", "author", "household", "device", "cookie", "profile", "session", "sess", "visit"),
    ),
    "item_id": (
        *("item", "iid", "product", "prod", "article", "sku", "track", "song", "movie", "film", "video", "book"),
        *("asin", "isbn", "stock", "content", "news", "listing", "game", "show", "episode", "recipe", "business"),
        *("venue", "poi", "place", "hotel", "offer", "course", "document", "doc", "photo", "pin", "post", "ad"),
        *("artist", "page", "url", "path"),
    ),
    "behavior": ("behavior", "behaviour", "event", "action", "interaction", "activity", "feedback", "type", "op"),
    "timestamp": ("timestamp", "ts", "time", "datetime", "date", "when", "at", "created", "occurred", "dat", "day"),
}
_WORDS: Mapping[Field, str] = {
    "user_id": "who acted (user, visitor, customer, session, ...)",
    "item_id": "the item (item, product, article, sku, track, ...)",
    "timestamp": "the time (timestamp, time, date, ...)",
}
_ID_WORDS = frozenset({"id", "code", "key", "no", "nr", "num", "number", "hash", "uuid", "ref"})
_KIND_WORDS = frozenset({"type", "name", "kind"})
# What an item or a user has, but is not.
_OTHER_WORDS = frozenset(
    "name title type category cat price count quantity qty description desc brand rating score agent ip country "
    "region city language lang gender age group segment class status size color length duration text".split()
)
_MOST_BEHAVIORS = 100
_MOST_PAUSES = 0.5
_AS_FAR_APART = 0.8


@dataclass(frozen=True, slots=True)
class Guess:
    """How a file is read as a stream of events.

    Attributes:
        columns: The column of each field; behaviour may have none.
        time: How times are written.
        ignored: The columns that no field takes.
    """

    columns: Mapping[Field, str]
    time: TimeFormat
    ignored: tuple[str, ...]


class _Sample:
    """The first rows of a file, by column."""

    def __init__(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        taken = list(rows)
        self.values = {name: [row[place] for row in taken] for place, name in enumerate(columns)}

    def present(self, column: str) -> list[object]:
        return [value for value in self.values[column] if value is not None and value != ""]


def guess(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    given: Mapping[str, str] | None = None,
    unit: Unit | None = None,
) -> Guess:
    """Find the column of each field.

    Args:
        columns: Of the file.
        rows: The first few thousand.
        given: Columns that are known, by field.
        unit: What times count, where that is known.

    Raises:
        StreamError: A field has no column; the message says what was looked for and how to name it.
    """
    sample = _Sample(columns, rows)
    found = _checked(columns, given or {})
    for field in ("timestamp", "user_id", "item_id", "behavior"):
        if field not in found and (column := _by_name(field, sample, found.values())) is not None:
            found[field] = column
    _by_values(sample, found)
    missing = [field for field in REQUIRED if field not in found]
    if missing:
        raise StreamError(
            f"no column looks like {' or '.join(_WORDS[field] for field in missing)}; the columns are "
            f"{', '.join(columns) or 'none'}: name it with --map COLUMN={missing[0]}"
        )
    time = TimeFormat(unit) if unit is not None else guess_format(sample.values[found["timestamp"]])
    if time is None:
        first = next(iter(sample.present(found["timestamp"])), "")
        raise StreamError(
            f"the times in column {found['timestamp']}, such as {first!r:.40}, are neither numbers nor dates that are "
            "known: name another column with --map COLUMN=timestamp"
        )
    return Guess(found, time, tuple(name for name in columns if name not in found.values()))


def guess_gap(events: Sequence[StreamEvent], gap_ms: int) -> int | None:
    """Return the pause that ends a sitting: the one given, or None where most pauses are longer than that.

    In such a stream (a visit smeared over a day, one film an evening) sittings would be single events.
    """
    latest: dict[str, int] = {}
    n_pauses = n_long = 0
    for event in events:
        if event.key in latest:
            n_pauses += 1
            n_long += event.time - latest[event.key] > gap_ms
        latest[event.key] = event.time
    return None if n_long > _MOST_PAUSES * n_pauses else gap_ms


def _checked(columns: Sequence[str], given: Mapping[str, str]) -> dict[Field, str]:
    if unknown := sorted(set(given) - set(FIELDS)):
        raise StreamError(f"cannot map to {', '.join(unknown)}: the fields are {', '.join(FIELDS)}")
    if absent := sorted(set(given.values()) - set(columns)):
        raise StreamError(f"there is no column {', '.join(absent)}; the columns are {', '.join(columns)}")
    return {field: given[field] for field in FIELDS if field in given}


def _by_name(field: Field, sample: _Sample, taken: Collection[str]) -> str | None:
    ranked = [(_closeness(field, column), column) for column in sample.values if column not in taken]
    for closeness, column in sorted(ranked, key=lambda pair: pair[0]):
        if closeness < _FAR and _may_be(field, sample.present(column)):
            return column
    return None


_FAR = 1_000


def _closeness(field: Field, column: str) -> int:
    """How well a column's name fits, less is better; `_FAR` where it does not."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", column)]
    names = _NAMES[field]
    joined = "".join(words)
    helpers = _KIND_WORDS if field == "behavior" else _ID_WORDS if field != "timestamp" else frozenset[str]()
    # In "itemid" nothing tells where a word ends.
    stems = [joined, *(joined.removesuffix(helper) for helper in helpers if joined.endswith(helper))]
    exact = [names.index(stem) for stem in stems if stem in names]
    if exact:
        return min(exact)
    other = (_OTHER_WORDS if field in ("user_id", "item_id") else _ID_WORDS) - helpers
    places = [names.index(word) for word in words if word in names]
    if not places or other & set(words):
        return _FAR
    return (100 if helpers & set(words) else 200) + min(places)


def _may_be(field: Field, values: Sequence[object]) -> bool:
    """Whether values do not speak against what a name says."""
    if not values:
        return False
    if field == "timestamp":
        return guess_format(values) is not None
    if not all(isinstance(value, str | int | float) for value in values):
        return False
    return field != "behavior" or len(set(values)) <= _MOST_BEHAVIORS


def _by_values(sample: _Sample, found: dict[Field, str]) -> None:
    """Find what names did not tell: a time by how it is written, users and items by how they come back."""
    if "timestamp" not in found:
        for column in sample.values:
            if column not in found.values() and guess_format(sample.values[column], sure=False) is not None:
                found["timestamp"] = column
                break
    missing = [field for field in ("user_id", "item_id") if field not in found]
    ids = [column for column in sample.values if column not in found.values() and _is_id(sample.present(column))]
    # Where more columns could be meant than are looked for, a guess would be a bet.
    if not missing or len(ids) != len(missing):
        return
    if len(missing) == 1:
        found[missing[0]] = ids[0]  # type: ignore[index]  # one of the two fields above
        return
    spread = {column: _spread(sample.present(column)) for column in ids}
    user, item = sorted(ids, key=spread.__getitem__)
    # People act in bursts; items come back when they come back.
    if spread[user] < _AS_FAR_APART:
        found["user_id"], found["item_id"] = user, item


def _is_id(values: Sequence[object]) -> bool:
    """Whether values are ids: whole numbers or short text without spaces, many of them, and some of them again."""
    texts = [str(value) for value in values]
    distinct = len(set(texts))
    if not 10 <= distinct < len(texts):
        return False
    return all(len(text) <= 64 and re.fullmatch(r"[^\s.,]+", text) is not None for text in texts)


def _spread(values: Sequence[object]) -> float:
    """How far apart the same value comes again, as a share of how far it would by chance."""
    shuffled = list(values)
    random.Random(0).shuffle(shuffled)
    return _distance(values) / max(1.0, _distance(shuffled))


def _distance(values: Iterable[object]) -> float:
    """The median distance, in rows, from a value to where it comes again."""
    seen: dict[object, int] = {}
    distances = []
    for place, value in enumerate(values):
        if value in seen:
            distances.append(place - seen[value])
        seen[value] = place
    return float(sorted(distances)[len(distances) // 2]) if distances else 0.0
