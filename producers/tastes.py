"""Who looks at what next: the true distribution behind the synthetic shop, and what the best list could reach.

Items stand in slots. Popularity, themes and who-follows-whom belong to the slots and never change, so that what the
best list reaches is computed once; items change slots, come and go, and that is how the shop moves.
"""

import random
from bisect import bisect
from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from producers.shop_config import LIST_LENGTH

Probabilities: TypeAlias = NDArray[np.float64]

SLOTS_PER_THEME = 30
_FOLLOWERS = 12
_FOLLOWERS_ELSEWHERE = 3
_FAVOURITES = 4
_FAVOURITES_SHARE = 0.6
_SHOWN_IN_FRONT = 12
_MAX_CACHED = 200_000


class Mood(NamedTuple):
    """What the next view depends on.

    Attributes:
        slot: Where the item is that the user is on; None where there is none, or it has gone. It is not viewed again.
        follow: The chance that the next item follows from the one at `slot`; else it is drawn from `source`.
        source: A persona (0 and up), or a theme as -1 - theme.
    """

    slot: int | None
    follow: float
    source: int


class Tastes:
    """Slots with popularity, themes and followers; personas with favourite themes.

    Args:
        n_slots: How many items the shop has at a time; more than `LIST_LENGTH`.
        n_personas: Kinds of people.
        rng: Draws the structure.

    Attributes:
        theme_of: The theme of each slot.
        popularity: Of each slot, float64 [n_slots], a power law.
        in_front: The most popular slots of each theme.
    """

    def __init__(self, n_slots: int, n_personas: int, rng: random.Random) -> None:
        self.n_slots = n_slots
        self.n_themes = max(1, n_slots // SLOTS_PER_THEME)
        self.theme_of = [slot % self.n_themes for slot in range(n_slots)]
        self.popularity = _power_law(n_slots, rng)
        members = [[s for s in range(n_slots) if self.theme_of[s] == theme] for theme in range(self.n_themes)]
        self._followers = self._draw_followers(members, rng)
        self.in_front = [sorted(slots, key=lambda s: -self.popularity[s])[:_SHOWN_IN_FRONT] for slots in members]
        weights = [1.0 / (rank + 1) for rank in range(len(self._followers[0]))]
        self._follower_weights = np.array(weights) / sum(weights)
        self._follower_cdf = list(accumulate(self._follower_weights.tolist()))
        personas = [self._persona(rng) for _ in range(n_personas)]
        themes = [np.array([float(t == theme) for t in range(self.n_themes)]) for theme in range(self.n_themes)]
        self._sources = {i: self._spread(weights) for i, weights in enumerate(personas)}
        self._sources |= {-1 - theme: self._spread(weights) for theme, weights in enumerate(themes)}
        self._source_cdfs = {source: np.cumsum(p).tolist() for source, p in self._sources.items()}
        self._theme_cdfs = {i: np.cumsum(weights).tolist() for i, weights in enumerate(personas)}
        self._best: dict[Mood, float] = {}

    def distribution(self, mood: Mood) -> Probabilities:
        """Return the chance of each slot to be viewed next, float64 [n_slots]."""
        chances: Probabilities = (1.0 - mood.follow) * self._sources[mood.source]
        if mood.slot is not None:
            chances[self._followers[mood.slot]] += mood.follow * self._follower_weights
            chances[mood.slot] = 0.0
        chances /= chances.sum()
        return chances

    def draw(self, mood: Mood, rng: random.Random) -> int:
        """Draw the slot that is viewed next, with the chances of `distribution`."""
        while True:
            if mood.slot is not None and rng.random() < mood.follow:
                return self._followers[mood.slot][self._place(self._follower_cdf, rng)]
            slot = self._place(self._source_cdfs[mood.source], rng)
            if slot != mood.slot:
                return slot

    def draw_theme(self, persona: int, rng: random.Random) -> int:
        """Draw a theme that a persona looks for."""
        return self._place(self._theme_cdfs[persona], rng)

    def best_reachable(self, mood: Mood, boosts: Mapping[int, float]) -> float:
        """Return the chance that the next view is in the best possible list.

        Args:
            mood: What the next view depends on.
            boosts: Slots that are viewed with these chances whatever the mood; the mood has the rest.
        """
        if not boosts:
            if (known := self._best.get(mood)) is None:
                if len(self._best) >= _MAX_CACHED:
                    self._best.clear()
                known = self._best[mood] = _head(self.distribution(mood))
            return known
        chances = (1.0 - sum(boosts.values())) * self.distribution(mood)
        for slot, chance in boosts.items():
            chances[slot] += chance
        return _head(chances)

    def _place(self, cdf: list[float], rng: random.Random) -> int:
        # The last sum may fall short of 1 by rounding.
        return min(bisect(cdf, rng.random()), len(cdf) - 1)

    def _draw_followers(self, members: list[list[int]], rng: random.Random) -> list[list[int]]:
        """Give each slot those that follow it: most from its own theme, some from the theme that goes with it."""
        companion = list(range(self.n_themes))
        rng.shuffle(companion)
        followers = []
        for slot, theme in enumerate(self.theme_of):
            near = _draw_distinct(members[theme], self.popularity, _FOLLOWERS - _FOLLOWERS_ELSEWHERE, {slot}, rng)
            far = _draw_distinct(members[companion[theme]], self.popularity, _FOLLOWERS_ELSEWHERE, {slot, *near}, rng)
            # At places 3, 7 and 11: the other theme is there, and never first.
            for place, other in zip((2, 6, 10), far, strict=True):
                near.insert(place, other)
            followers.append(near)
        return followers

    def _persona(self, rng: random.Random) -> Probabilities:
        weights = np.full(self.n_themes, (1 - _FAVOURITES_SHARE) / self.n_themes)
        for theme in rng.sample(range(self.n_themes), min(_FAVOURITES, self.n_themes)):
            weights[theme] += _FAVOURITES_SHARE / _FAVOURITES
        weights /= weights.sum()
        return weights

    def _spread(self, theme_weights: Probabilities) -> Probabilities:
        """Spread weights of themes over their slots by popularity."""
        chances = np.zeros(self.n_slots)
        themes = np.array(self.theme_of)
        for theme, weight in enumerate(theme_weights):
            mask = themes == theme
            chances[mask] = weight * self.popularity[mask] / self.popularity[mask].sum()
        return chances


def _power_law(n_slots: int, rng: random.Random) -> Probabilities:
    ranks = list(range(n_slots))
    rng.shuffle(ranks)
    weights = 1.0 / (np.array(ranks, dtype=np.float64) + 10.0)
    weights /= weights.sum()
    return weights


def _draw_distinct(
    slots: list[int], popularity: Probabilities, count: int, without: set[int], rng: random.Random
) -> list[int]:
    """Draw slots, popular ones sooner, none twice (Efraimidis and Spirakis 2006: each waits, the first ones win)."""
    waits = {slot: rng.expovariate(float(popularity[slot])) for slot in slots if slot not in without}
    return sorted(waits, key=lambda slot: waits[slot])[:count]


def _head(chances: Probabilities) -> float:
    return float(np.partition(chances, -LIST_LENGTH)[-LIST_LENGTH:].sum())
