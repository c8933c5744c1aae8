"""Search over settings: which are tried, and a file of finished trials that lets a stopped search go on."""

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

_TRIES = 100


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers to draw from: evenly on a logarithmic scale where the lower end is above 0, else evenly.

    Raises:
        ValueError: The ends are not finite, or not in order.
    """

    low: float
    high: float
    integer: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"a range must rise from a number to a number, not from {self.low:g} to {self.high:g}")

    def draw(self, chance: random.Random) -> float:
        """Return a number from the range."""
        if self.low > 0:
            drawn = math.exp(chance.uniform(math.log(self.low), math.log(self.high)))
        else:
            drawn = chance.uniform(self.low, self.high)
        # Three digits can be read, and typed again.
        return round(drawn) if self.integer else float(f"{drawn:.3g}")


Space: TypeAlias = Mapping[str, Sequence[Any] | Range]
Settings: TypeAlias = dict[str, Any]


def trials(space: Space, defaults: Mapping[str, Any], n_trials: int | None, seed: int | None) -> list[Settings]:
    """Return the settings to try: the defaults first, then others, none twice.

    Args:
        space: For each setting the values it may take.
        defaults: What the settings are when none is changed.
        n_trials: How many at most, the defaults among them; None for the whole grid.
        seed: Of random draws; None for the grid in order.

    Raises:
        ValueError: A grid is asked for and there is a range in it, or more of it than trials.

    >>> trials({"hidden": [50, 100]}, {"hidden": 100}, None, None)
    [{'hidden': 100}, {'hidden': 50}]
    """
    found = [{name: defaults[name] for name in space}]
    if seed is None:
        found += [settings for settings in _grid(space) if settings != found[0]]
        if n_trials is not None and len(found) > n_trials:
            raise ValueError(f"the grid has {len(found)} settings, the defaults among them: draw {n_trials} at random")
        return found
    if n_trials is None:
        raise ValueError("random draws need a number of trials")
    chance = random.Random(seed)
    for _ in range(_TRIES * n_trials):
        if len(found) >= n_trials:
            break
        drawn = {
            name: values.draw(chance) if isinstance(values, Range) else chance.choice(values)
            for name, values in space.items()
        }
        if drawn not in found:
            found.append(drawn)
    return found


def _grid(space: Space) -> list[Settings]:
    columns = []
    for name, values in space.items():
        if isinstance(values, Range):
            raise ValueError(f"{name} is a range: a grid needs its values one by one")
        columns.append(values)
    return [dict(zip(space, values, strict=True)) for values in product(*columns)]


def identity(facts: Mapping[str, Any]) -> str:
    """Return a name for everything that decides a trial's figures: equal facts, equal names."""
    return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


class TrialLog:
    """Finished trials in a file of JSON lines; each is on disk before the next begins.

    Args:
        path: Where; need not exist yet. A line that a kill has torn is as if it were not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, dict[str, Any]] = {}
        if not path.exists():
            return
        text = path.read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and isinstance(record.get("id"), str):
                self._found[record["id"]] = record
        if text and not text.endswith("\n"):
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")

    def __len__(self) -> int:
        return len(self._found)

    def get(self, name: str) -> dict[str, Any] | None:
        """Return what is known of a finished trial."""
        return self._found.get(name)

    def add(self, record: dict[str, Any]) -> None:
        """Keep a finished trial; its name is `record["id"]`.

        Raises:
            OSError: It cannot be written.
        """
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self._found[record["id"]] = record
