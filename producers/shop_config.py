"""What kind of shop; apart from the shop itself, whose numbers take a while to import."""

from dataclasses import dataclass

LIST_LENGTH = 20


@dataclass(frozen=True)
class ShopConfig:
    """What kind of shop.

    Attributes:
        users: How many people.
        items: How many items at a time, 2 * `LIST_LENGTH` at least.
        personas: Kinds of people, each with favourite themes.
        seed: Everything follows from it.
        active: Share of the people that are in the shop at once.
        follow: Chance that the next item follows from the current one; else it is of the person's taste.
        events_per_sitting: In the mean.
        new_taste: Chance that somebody comes back as another persona.
        renew_every: Events after which an item goes and a new one comes; 0 for never.
        swap_every: Events after which two items change what they go with; 0 for never.
        impressions: Whether pages of a theme are recorded as impressions.
    """

    users: int = 2000
    items: int = 600
    personas: int = 12
    seed: int = 0
    active: float = 0.1
    follow: float = 0.75
    events_per_sitting: float = 10.0
    new_taste: float = 0.05
    renew_every: int = 2000
    swap_every: int = 2000
    impressions: bool = False

    def __post_init__(self) -> None:
        if self.users < 1 or self.personas < 1:
            raise ValueError(f"expected a user and a persona at least, got {self.users} and {self.personas}")
        if self.items < 2 * LIST_LENGTH:
            raise ValueError(f"expected {2 * LIST_LENGTH} items at least, got {self.items}")
