"""Which item id owns which row of the weight tables: growth, admission, and eviction at a ceiling.

Live rows are always `0 .. n_items - 1` without holes: below the ceiling a new item takes the next row, at the ceiling
it takes over the row of the item that leaves.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from online_model.protocol import State
from online_model.tensor_bytes import pack_strings, unpack_strings

Rows: TypeAlias = npt.NDArray[np.int64]
"""Row numbers."""


class RowIndex:
    """Item id <-> row, nothing more: what a serving copy needs."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.rows: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def assign(self, tenants: Iterable[tuple[int, str]]) -> None:
        """Give rows to ids; a row's former tenant is forgotten, and rows may be appended in order.

        All former tenants leave before the first new one enters, so that an id may move from one row to another.
        """
        tenants = list(tenants)
        for row, item in tenants:
            if row < len(self.ids) and self.ids[row] != item:
                former = self.ids[row]
                if self.rows.get(former) == row:
                    del self.rows[former]
        for row, item in tenants:
            if row < len(self.ids):
                self.ids[row] = item
            elif row == len(self.ids):
                self.ids.append(item)
            else:
                raise ValueError(f"row {row} would leave a hole after {len(self.ids)} rows")
            self.rows[item] = row


@dataclass(frozen=True, slots=True)
class Plan:
    """What a batch of sightings will do to a vocabulary, decided but not yet done.

    Attributes:
        sighted: The sighted ids, in order.
        births: Ids that enter, in order, with their rows.
        evicted: Ids that leave, with the rows they give up.
        rows: Rows of all live ids once the plan is done.
    """

    sighted: Sequence[str]
    births: Mapping[str, int]
    evicted: Mapping[str, int]
    _before: Mapping[str, int] = field(repr=False)

    def row(self, item: str) -> int:
        """Return the row that the id has once the plan is done, -1 where it has none."""
        if item in self.births:
            return self.births[item]
        return -1 if item in self.evicted else self._before.get(item, -1)


class Vocabulary:
    """Ids admitted after enough sightings, the least recently seen evicted at the ceiling.

    An item seen once since its admission is on probation. When the vocabulary is full and the items on probation hold
    their share of it, the oldest of them leaves, else the least recently seen of the others: a flood of ids that come
    once turns over the probation share and nothing else.
    """

    def __init__(self, max_items: int, admit_after: int = 1, probation_share: float = 0.1) -> None:
        self.max_items = max_items
        self.admit_after = admit_after
        self.probation_rows = max(1, int(max_items * probation_share))
        self.index = RowIndex()
        self.n_evicted = 0
        self._sightings = np.zeros(1024, np.int64)
        # Least recently seen first.
        self._probation: OrderedDict[str, None] = OrderedDict()
        self._settled: OrderedDict[str, None] = OrderedDict()
        # Sightings of ids that are not admitted yet, least recently seen first, bounded like the vocabulary itself.
        self._waiting: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self.index)

    def __contains__(self, item: object) -> bool:
        return item in self.index.rows

    def plan(self, sighted: Sequence[str]) -> Plan:
        """Decide which of the sighted ids enter and which others leave for them; changes nothing."""
        rows = self.index.rows
        counts = Counter(item for item in sighted if item not in rows)
        entering = [item for item, count in counts.items() if count + self._waiting.get(item, 0) >= self.admit_after]
        n_free = self.max_items - len(self.index)
        evicted = self._victims(len(entering) - n_free, set(sighted)) if len(entering) > n_free else {}
        free = list(range(len(self.index), min(self.max_items, len(self.index) + len(entering))))
        # Where a batch holds more new ids than can be made room for, the last of them stay out.
        births = dict(zip(entering, free + list(evicted.values()), strict=False))
        return Plan(sighted, births, evicted, rows)

    def commit(self, plan: Plan, *, count_sightings: bool = True) -> None:
        """Do what `plan` decided; it must be the latest one made.

        Args:
            plan: What to do.
            count_sightings: False lets new ids enter and leaves the sightings to be counted by a later plan.
        """
        for item in plan.evicted:
            self._probation.pop(item, None)
            self._settled.pop(item, None)
        self.n_evicted += len(plan.evicted)
        self.index.assign((row, item) for item, row in plan.births.items())
        self._reserve(len(self.index))
        for item, row in plan.births.items():
            self._sightings[row] = 0
            self._probation[item] = None
            self._waiting.pop(item, None)
        if count_sightings:
            for item in plan.sighted:
                self._sight(item)
            while len(self._waiting) > self.max_items:
                self._waiting.popitem(last=False)

    def state(self) -> State:
        """Return ids, sightings and the order in which items would leave."""
        names, ends = pack_strings(self.index.ids)
        waiting, waiting_ends = pack_strings(list(self._waiting))
        rows = self.index.rows
        return State(
            {
                "ids": names,
                "id_ends": ends,
                "sightings": torch.from_numpy(self._sightings[: len(self)].copy()),
                "probation": torch.tensor([rows[item] for item in self._probation], dtype=torch.int64),
                "settled": torch.tensor([rows[item] for item in self._settled], dtype=torch.int64),
                "waiting": waiting,
                "waiting_ends": waiting_ends,
                "waiting_sightings": torch.tensor(list(self._waiting.values()), dtype=torch.int64),
            },
            {"n_evicted": self.n_evicted},
        )

    def load_state(self, state: State) -> None:
        """Become the vocabulary that `state` was taken from.

        Raises:
            ValueError: It holds more items than this one may.
        """
        tensors = state.tensors
        ids = unpack_strings(tensors["ids"], tensors["id_ends"])
        if len(ids) > self.max_items:
            raise ValueError(f"the saved vocabulary has {len(ids)} items, max_items allows {self.max_items}")
        waiting = unpack_strings(tensors["waiting"], tensors["waiting_ends"])
        self.index = RowIndex()
        self.index.assign(enumerate(ids))
        self._reserve(len(ids))
        self._sightings[: len(ids)] = tensors["sightings"].numpy()
        self._probation = OrderedDict((ids[row], None) for row in tensors["probation"].tolist())
        self._settled = OrderedDict((ids[row], None) for row in tensors["settled"].tolist())
        self._waiting = OrderedDict(zip(waiting, tensors["waiting_sightings"].tolist(), strict=True))
        self.n_evicted = int(str(state.metadata["n_evicted"]))

    def _sight(self, item: str) -> None:
        row = self.index.rows.get(item)
        if row is None:
            self._waiting[item] = self._waiting.pop(item, 0) + 1
            return
        self._sightings[row] += 1
        if item in self._settled:
            self._settled.move_to_end(item)
        elif self._sightings[row] > 1:
            del self._probation[item]
            self._settled[item] = None
        else:
            self._probation.move_to_end(item)

    def _victims(self, wanted: int, keep: set[str]) -> dict[str, int]:
        """The ids that leave for `wanted` new ones, none of `keep` among them."""
        excess = max(0, len(self._probation) + min(wanted, self.max_items) - self.probation_rows)
        first = self._oldest(self._probation, min(wanted, excess), keep)
        others = self._oldest(self._settled, wanted - len(first), keep)
        # Few items are settled: more of those on probation have to go.
        more = self._oldest(self._probation, wanted - len(others), keep) if len(first) + len(others) < wanted else first
        return {item: self.index.rows[item] for item in [*more, *others]}

    @staticmethod
    def _oldest(order: OrderedDict[str, None], wanted: int, keep: set[str]) -> list[str]:
        return list(islice((item for item in order if item not in keep), max(0, wanted)))

    def _reserve(self, n_rows: int) -> None:
        if n_rows > len(self._sightings):
            grown = np.zeros(max(n_rows, 2 * len(self._sightings)), np.int64)
            grown[: len(self._sightings)] = self._sightings
            self._sightings = grown
