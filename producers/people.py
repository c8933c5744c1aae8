"""The people of the synthetic shop: what each is up to, who is in the shop, who is away."""

import random
from dataclasses import dataclass


@dataclass(slots=True)
class User:
    """Somebody, between two events.

    Attributes:
        user_id: Their id.
        persona: What kind of person they are at the moment.
        place: Where they stand in the shop; of no meaning while they are away.
        item: What they looked at last.
        seen_ms: When that was, or when they last did something with it, in milliseconds since the epoch.
        sitting: How many sittings they have ended.
        arriving: They have not looked at anything in this sitting.
        theme_sought: What they have just searched for.
        in_cart: What they put into the cart last.
        bought: What they bought last, and have not sent back.
    """

    user_id: str
    persona: int
    place: int = 0
    item: str | None = None
    seen_ms: int = 0
    sitting: int = 0
    arriving: bool = True
    theme_sought: int | None = None
    in_cart: str | None = None
    bought: str | None = None


class Crowd:
    """Who is in the shop, and who is away.

    Args:
        n_users: How many people there are.
        active: Share of them that is in the shop at once.
        n_personas: Kinds of people.
        new_taste: Chance that somebody leaves to come back as another kind.
        rng: Chooses.
    """

    def __init__(self, n_users: int, active: float, n_personas: int, new_taste: float, rng: random.Random) -> None:
        self._rng = rng
        self._n_personas = n_personas
        self._new_taste = new_taste
        width = len(str(n_users))
        people = [User(f"u{n:0{width}d}", self._persona()) for n in range(1, n_users + 1)]
        n_active = max(1, round(n_users * active))
        self.present, self._away = people[:n_active], people[n_active:]
        for place, user in enumerate(self.present):
            user.place = place

    def anybody(self) -> User:
        """Choose one of those in the shop."""
        return self._rng.choice(self.present)

    def leave(self, user: User) -> None:
        """End the sitting of somebody in the shop, and let somebody else in."""
        user.arriving, user.theme_sought = True, None
        user.sitting += 1
        if self._rng.random() < self._new_taste:
            user.persona = self._persona()
        self._away.append(user)
        chosen = self._rng.randrange(len(self._away))
        self._away[chosen], self._away[-1] = self._away[-1], self._away[chosen]
        newcomer = self._away.pop()
        newcomer.place = user.place
        self.present[user.place] = newcomer

    def _persona(self) -> int:
        return self._rng.randrange(self._n_personas)
