"""A small shop whose visits have a pattern, and learners small enough to follow it quickly."""

import random
from collections.abc import Callable

import pytest

from online_model.config import ModelConfig
from online_model.protocol import Context, Example, Request, Visit

Batches = Callable[..., list[list[Example]]]
Asking = Callable[..., Request]


def _context(*items: str, sitting: int = 0) -> Context:
    visits: list[Visit] = [(item, "view", 1_000 * place) for place, item in enumerate(items)]
    return Context(tuple(visits), sitting, 1_000 * len(items))


@pytest.fixture
def config() -> ModelConfig:
    return ModelConfig(
        hidden=8,
        negatives=16,
        window=5,
        max_items=1_000,
        device="cpu",
        popularity_half_life=200,
        neighbour_sittings=64,
        ranking_hidden=8,
        follower_slots=16,
    )


@pytest.fixture
def context() -> Callable[..., Context]:
    return _context


@pytest.fixture
def asking() -> Asking:
    """A request after some items, by default without the last of them in the list."""

    def request(*items: str, exclude: frozenset[str] | None = None) -> Request:
        return Request(_context(*items), frozenset(items[-1:]) if exclude is None else exclude)

    return request


@pytest.fixture
def batches() -> Batches:
    """Mini-batches of examples in which item n is mostly followed by n + 1; all roles occur."""

    def make(
        n_batches: int, *, size: int = 16, n_items: int = 40, seed: int = 0, prefix: str = ""
    ) -> list[list[Example]]:
        chance = random.Random(seed)

        def example() -> Example:
            start, length = chance.randrange(n_items), chance.randrange(7)
            items = [f"{prefix}{(start + step) % n_items}" for step in range(length + 1)]
            role = chance.choice(["interest", "interest", "strong", "negative", "exposure", "signal"])
            target = None if role == "signal" else items[-1]
            return Example(_context(*items[:-1]), target, role, weight=chance.choice([1.0, 0.5]))  # type: ignore[arg-type]

        return [[example() for _ in range(size)] for _ in range(n_batches)]

    return make
