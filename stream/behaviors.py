"""What a behaviour is to the recommender: its canonical name and its role."""

from collections.abc import Mapping
from typing import NamedTuple

from online_model.protocol import Role
from stream.settings import BehaviorSettings, SettingsError

DEFAULT_ROLES: Mapping[str, Role] = {
    "view": "interest",
    "play": "interest",
    "like": "strong",
    "cart": "strong",
    "buy": "strong",
    "share": "strong",
    "dislike": "negative",
    "hide": "negative",
    "return": "negative",
    "uncart": "negative",
    "impression": "exposure",
    "search": "signal",
    "unsubscribe": "signal",
}
DEFAULT_ALIASES: Mapping[str, str] = {
    "click": "view",
    "browse": "view",
    "purchase": "buy",
    "favorite": "like",
    "favourite": "like",
    "add_to_cart": "cart",
    "remove_from_cart": "uncart",
}

SEQUENCE_ROLES: frozenset[Role] = frozenset({"interest", "strong"})
"""In the sequence, answered, a target."""


class Behavior(NamedTuple):
    """A behaviour as the rest of the program knows it."""

    name: str
    role: Role


def behavior_table(settings: BehaviorSettings) -> dict[str, Behavior]:
    """Return what each name in a record means, aliases included.

    Raises:
        SettingsError: An alias leads to a behaviour without a role.

    >>> behavior_table(BehaviorSettings())["click"]
    Behavior(name='view', role='interest')
    """
    roles = {**DEFAULT_ROLES, **settings.roles}
    table = {name: Behavior(name, role) for name, role in roles.items()}
    for alias, name in {**DEFAULT_ALIASES, **settings.aliases}.items():
        if name not in roles:
            known = ", ".join(sorted(roles))
            raise SettingsError(
                f"behaviors.aliases: {alias!r} stands for {name!r}, which has no role; known are {known}"
            )
        if alias not in roles:
            table[alias] = Behavior(name, roles[name])
    return table
