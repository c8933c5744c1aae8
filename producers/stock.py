"""Which item stands where in the synthetic shop, and what comes and goes."""

import random
from collections.abc import Sequence

import msgspec

from producers.catalogue import CATEGORIES, Item, invent

_DAY_MS = 86_400_000
_INVENTED_ID = "i"


class Stock:
    """Items in slots.

    Args:
        theme_of: The theme of each slot; a theme's items are of one category, as far as it goes.
        opened_ms: When the shop opens, in milliseconds since the epoch.
        rng: Makes up items.
        items: What it sells, as many as slots; made up where none are given.
    """

    def __init__(self, theme_of: Sequence[int], opened_ms: int, rng: random.Random, items: Sequence[Item] = ()) -> None:
        self._rng = rng
        self._items = _shelve(items, theme_of) if items else _invented(theme_of, opened_ms, rng)
        self._slot_of = {item.item_id: slot for slot, item in enumerate(self._items)}
        self._next_number = 1 + max((_number(item.item_id) for item in self._items), default=0)
        self._changes: list[Item] = list(self._items)

    @property
    def items(self) -> list[Item]:
        """What is sold at the moment, by slot."""
        return list(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._slot_of

    def at(self, slot: int) -> Item:
        """Return the item in a slot."""
        return self._items[slot]

    def slot_of(self, item_id: str | None) -> int | None:
        """Return where an item stands; None where it has gone."""
        return None if item_id is None else self._slot_of.get(item_id)

    def take_changes(self) -> list[Item]:
        """Return items that came or went since the last call, at first all; those that went are not `available`."""
        changes, self._changes = self._changes, []
        return changes

    def renew(self, slot: int, now_ms: int) -> Item:
        """Withdraw the item of a slot, and put a new one of its category there."""
        old = self._items[slot]
        category = next((name for name in old.categories if name in CATEGORIES), None)
        item = invent(self._next_number, category or self._rng.choice(list(CATEGORIES)), now_ms, self._rng)
        self._next_number += 1
        self._items[slot] = item
        del self._slot_of[old.item_id]
        self._slot_of[item.item_id] = slot
        self._changes += [msgspec.structs.replace(old, available=False), item]
        return item

    def exchange(self, slots: Sequence[int]) -> None:
        """Let the items of these slots move on by one slot, round in a ring."""
        moved = [self._items[slot] for slot in slots]
        for slot, item in zip(slots, [*moved[1:], moved[0]], strict=True):
            self._items[slot] = item
            self._slot_of[item.item_id] = slot


def _number(item_id: str) -> int:
    digits = item_id.removeprefix(_INVENTED_ID)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 18 else 0


def _invented(theme_of: Sequence[int], opened_ms: int, rng: random.Random) -> list[Item]:
    categories = list(CATEGORIES)
    return [
        invent(slot + 1, categories[theme % len(categories)], opened_ms - rng.randrange(365 * _DAY_MS), rng)
        for slot, theme in enumerate(theme_of)
    ]


def _shelve(items: Sequence[Item], theme_of: Sequence[int]) -> list[Item]:
    slots = sorted(range(len(items)), key=theme_of.__getitem__)
    ordered = sorted(items, key=lambda item: item.categories[:1])
    shelved = dict(zip(slots, ordered, strict=True))
    return [shelved[slot] for slot in range(len(items))]
