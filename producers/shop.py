"""A shop that does not exist: who does what next, seeded, with a best reachable hit rate that is known.

No clock, no I/O: times are passed in, events and changes of the catalogue come out.
"""

import random
from collections import deque
from collections.abc import Sequence

from producers.catalogue import Item
from producers.events import Event
from producers.people import Crowd, User
from producers.shop_config import ShopConfig
from producers.stock import Stock
from producers.tastes import Mood, Tastes

SITTING_PAUSE_MS = 30 * 60 * 1000
"""After a longer pause a view opens a sitting, and no list is held against it."""
RECENT = 1000
_ACTIONS = (("like", 0.05), ("cart", 0.06), ("share", 0.01), ("dislike", 0.015))
_BUY_FROM_CART, _RETURN, _SEARCH, _IMPRESSION = 0.25, 0.02, 0.04, 0.1
_OPENS_ELSEWHERE = 0.5
_LAUNCH_SHARE, _LAUNCH_FADES, _LAUNCH_OVER = 0.15, 0.9995, 0.01


class Shop:
    """Says what people do next, and what the best list could have known of it.

    Args:
        config: What kind of shop.
        run: Part of the ids of events and sittings, so that two runs do not share them.
        opened_ms: When it opens, in milliseconds since the epoch.
        items: What it sells; made up where none are given. With items given, `config.items` is not looked at.

    Attributes:
        n_events: Events so far.
        n_scored: Views so far that a list can be held against.
        stock: What it sells.
        crowd: Its people.
    """

    def __init__(self, config: ShopConfig, run: str, opened_ms: int, items: Sequence[Item] = ()) -> None:
        self.config = config
        self.n_events = 0
        self.n_scored = 0
        self._run = run
        self._rng = random.Random(config.seed)
        self._tastes = Tastes(len(items) or config.items, config.personas, self._rng)
        self.stock = Stock(self._tastes.theme_of, opened_ms, self._rng, items)
        self._launched: dict[str, float] = {}
        self._reach_sum = 0.0
        self._reach_recent: deque[float] = deque(maxlen=RECENT)
        self.crowd = Crowd(config.users, config.active, config.personas, config.new_taste, self._rng)

    @property
    def best_reachable(self) -> float | None:
        """Expected hit rate of the best possible lists of 20 over all scored views; None where there was none."""
        return self._reach_sum / self.n_scored if self.n_scored else None

    @property
    def best_reachable_recent(self) -> float | None:
        """The same over the last `RECENT` scored views."""
        return sum(self._reach_recent) / len(self._reach_recent) if self._reach_recent else None

    def step(self, now_ms: int) -> Event:
        """Let somebody do something, and the shop move on a little."""
        self.n_events += 1
        if self.config.renew_every and self.n_events % self.config.renew_every == 0:
            self._renew(self._rng.randrange(len(self.stock)), now_ms)
        if self.config.swap_every and self.n_events % self.config.swap_every == 0:
            self.stock.exchange(self._rng.sample(range(len(self.stock)), 2))
        user = self.crowd.anybody()
        event = self.next_event(user, now_ms)
        if self._rng.random() * self.config.events_per_sitting < 1:
            self.crowd.leave(user)
        return event

    def next_event(self, user: User, now_ms: int, shown: None = None) -> Event:
        """Return what a user does next.

        Args:
            user: Who; changed by it.
            now_ms: When.
            shown: What the user was shown. Nobody is shown anything in this shop.
        """
        slot = self.stock.slot_of(user.item)
        if slot is not None and not user.arriving and (event := self._act(user, slot, now_ms)):
            return event
        if user.theme_sought is None and self._rng.random() < _SEARCH:
            return self._search(user, now_ms)
        return self._view(user, now_ms)

    def launch(self, now_ms: int) -> Item:
        """Bring in an item that many people look at at once; it fades."""
        free = [slot for slot, item in enumerate(self.stock.items) if item.item_id not in self._launched]
        item = self._renew(self._rng.choice(free), now_ms)
        self._launched[item.item_id] = _LAUNCH_SHARE
        return item

    def drift(self) -> None:
        """Turn tastes over: every item goes with others than before, and is as popular as another was."""
        slots = list(range(len(self.stock)))
        self._rng.shuffle(slots)
        self.stock.exchange(slots)

    def _view(self, user: User, now_ms: int) -> Event:
        mood, boosts = self._mood(user), self._boosts(user)
        if user.item is not None and now_ms - user.seen_ms <= SITTING_PAUSE_MS:
            self._count(self._tastes.best_reachable(mood, boosts))
        surface = "home" if user.arriving else "item" if user.theme_sought is None else "search"
        user.item = self.stock.at(self._draw(mood, boosts)).item_id
        user.arriving, user.theme_sought, user.seen_ms = False, None, now_ms
        self._fade()
        return self._event(user, "view", now_ms, item_id=user.item, surface=surface)

    def _mood(self, user: User) -> Mood:
        slot = self.stock.slot_of(user.item)
        if user.theme_sought is not None:
            return Mood(slot, 0.0, -1 - user.theme_sought)
        follow = self.config.follow * (_OPENS_ELSEWHERE if user.arriving else 1.0)
        return Mood(slot, 0.0 if slot is None else follow, user.persona)

    def _boosts(self, user: User) -> dict[int, float]:
        if not self._launched or user.theme_sought is not None:
            return {}
        shares = {
            slot: share
            for item, share in self._launched.items()
            if item != user.item and (slot := self.stock.slot_of(item)) is not None
        }
        most = max(1.0, 2 * sum(shares.values()))  # never more than half of all views
        return {slot: share / most for slot, share in shares.items()}

    def _draw(self, mood: Mood, boosts: dict[int, float]) -> int:
        if boosts:
            left = self._rng.random()
            for slot, share in boosts.items():
                left -= share
                if left < 0:
                    return slot
        return self._tastes.draw(mood, self._rng)

    def _fade(self) -> None:
        if self._launched:
            faded = {item: share * _LAUNCH_FADES for item, share in self._launched.items()}
            self._launched = {item: share for item, share in faded.items() if share > _LAUNCH_OVER}

    def _count(self, reach: float) -> None:
        self.n_scored += 1
        self._reach_sum += reach
        self._reach_recent.append(reach)

    def _act(self, user: User, slot: int, now_ms: int) -> Event | None:
        """Return what the user does other than go on: with the item they are on, or with one bought before."""
        item = self.stock.at(slot)
        choices = [*_ACTIONS]
        if user.in_cart == item.item_id:
            choices.append(("buy", _BUY_FROM_CART))
        if user.bought is not None:
            choices.append(("return", _RETURN))
        if self.config.impressions:
            choices.append(("impression", _IMPRESSION))
        roll = self._rng.random()
        for behavior, chance in choices:
            roll -= chance
            if roll < 0:
                return (
                    self._impression(user, slot, now_ms)
                    if behavior == "impression"
                    else self._action(user, behavior, item, now_ms)
                )
        return None

    def _action(self, user: User, behavior: str, item: Item, now_ms: int) -> Event:
        if behavior == "return":
            item_id, user.bought = user.bought, None
            return self._event(user, behavior, now_ms, item_id=item_id)
        if behavior == "dislike":
            return self._event(user, behavior, now_ms, item_id=item.item_id)
        user.seen_ms = now_ms
        if behavior == "cart":
            user.in_cart = item.item_id
        elif behavior == "buy":
            user.in_cart, user.bought = None, item.item_id
        value = item.price if behavior in ("cart", "buy") else None
        return self._event(user, behavior, now_ms, item_id=item.item_id, value=value)

    def _impression(self, user: User, slot: int, now_ms: int) -> Event:
        """The user leafs through what stands in front of the theme."""
        page = [self.stock.at(s).item_id for s in self._tastes.in_front[self._tastes.theme_of[slot]]]
        return self._event(user, "impression", now_ms, items=page, surface="category")

    def _search(self, user: User, now_ms: int) -> Event:
        user.theme_sought = self._tastes.draw_theme(user.persona, self._rng)
        title = self.stock.at(self._rng.choice(self._tastes.in_front[user.theme_sought])).title
        # "Nordic Frying Pan, Slate": people look for a frying pan.
        query = title.split(",")[0].partition(" ")[2] or title
        return self._event(user, "search", now_ms, query=query.lower(), surface="search")

    def _event(
        self,
        user: User,
        behavior: str,
        now_ms: int,
        *,
        item_id: str | None = None,
        surface: str | None = None,
        value: float | None = None,
        query: str | None = None,
        items: list[str] | None = None,
    ) -> Event:
        return Event(
            user_id=user.user_id,
            item_id=item_id,
            behavior=behavior,
            timestamp=now_ms,
            event_id=f"{self._run}-{self.n_events}",
            session_id=f"{self._run}-{user.user_id}-{user.sitting}",
            surface=surface,
            value=value,
            query=query,
            items=items,
        )

    def _renew(self, slot: int, now_ms: int) -> Item:
        self._launched.pop(self.stock.at(slot).item_id, None)
        return self.stock.renew(slot, now_ms)
