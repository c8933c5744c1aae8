"""A look-up of one user's recommendations: how it is asked for, and what it can answer."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, get_args
from urllib.parse import unquote_to_bytes

import msgspec

from stream.records import Recommendation
from stream.settings import Exclusion

MAX_K = 100
MAX_USER_ID_CHARACTERS = 256


class LookupRecord(Recommendation):
    """A list that was asked for: a recommendation without a trigger, and a word on it where it needs one."""

    note: str | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True)
class Found:
    """A list, encoded as JSON."""

    body: bytes


@dataclass(frozen=True)
class Elsewhere:
    """Another worker holds the user.

    Attributes:
        instance: The instance id of that worker; None while nobody knows it.
        url: Its advertised address; None where it advertises none.
        partition: The user's home.
    """

    instance: str | None
    url: str | None
    partition: int


@dataclass(frozen=True)
class NotReady:
    """This worker cannot answer yet."""

    why: str


LookupAnswer: TypeAlias = Found | Elsewhere | NotReady

Lookup: TypeAlias = Callable[[str, int, Exclusion | None], Awaitable[LookupAnswer]]
"""From user id, number of items and exclusion (None: that of the settings) to the answer."""


def found(record: Recommendation, note: str | None = None) -> Found:
    """Encode a list.

    Args:
        record: The list.
        note: What its reader should know: why it is empty, for example.

    >>> empty = Recommendation("r", "u", 0, 0, "live", "", candidates=0, items=[])
    >>> found(empty, "no item is known yet").body[-30:]
    b'"note":"no item is known yet"}'
    """
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    return Found(msgspec.json.encode(LookupRecord(**fields, note=note or msgspec.UNSET)))


class WrongQuestion(ValueError):
    """A look-up of something that cannot be; the message says what was expected and what came."""


class Question(NamedTuple):
    """Whose list, how long, and what may not stand in it (None: what the settings say)."""

    user_id: str
    k: int
    exclude: Exclusion | None


def read_question(raw_user_id: str, parameters: Iterable[tuple[str, str]], default_k: int) -> Question:
    """Read a request.

    Args:
        raw_user_id: As it stands in the path, percent-encoded.
        parameters: Names and values of the query, decoded.
        default_k: How long the list is where nobody says.

    Raises:
        WrongQuestion: A value cannot be used, or a parameter is unknown or stands twice.

    >>> read_question("a%2Fb", [("k", "5")], 20)
    Question(user_id='a/b', k=5, exclude=None)
    """
    given: dict[str, str] = {}
    for name, value in parameters:
        if name not in ("k", "exclude"):
            raise WrongQuestion(f"expected the parameters k and exclude, got {name!r}")
        if name in given:
            raise WrongQuestion(f"{name}: expected one value, got {given[name]!r} and {value!r}")
        given[name] = value
    user_id = _user_id(raw_user_id)
    return Question(user_id, _k(given.get("k", str(default_k))), _exclusion(given.get("exclude")))


def _user_id(raw: str) -> str:
    try:
        user_id = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise WrongQuestion(f"user id: expected percent-encoded UTF-8, got {raw!r}") from error
    if not 1 <= len(user_id) <= MAX_USER_ID_CHARACTERS:
        raise WrongQuestion(f"user id: expected 1..{MAX_USER_ID_CHARACTERS} characters, got {len(user_id)}")
    return user_id


def _k(text: str) -> int:
    # int() alone would take "+5", " 5", "1_0" and the digits of any script.
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_K)) and 1 <= int(text) <= MAX_K):
        raise WrongQuestion(f"k: expected an integer in 1..{MAX_K}, got {text!r}")
    return int(text)


def _exclusion(text: str | None) -> Exclusion | None:
    for known in get_args(Exclusion):
        if text == known:
            return known  # type: ignore[no-any-return]  # get_args knows no types
    if text is not None:
        raise WrongQuestion(f"exclude: expected one of {', '.join(get_args(Exclusion))}, got {text!r}")
    return None
