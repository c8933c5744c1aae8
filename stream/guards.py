"""Who may ask the web address, and how often."""

import hmac
import math
from collections.abc import Callable
from hashlib import sha256
from time import monotonic

_SCHEME = "Bearer "


class Token:
    """A bearer token that requests must bring, or none.

    >>> Token("open-sesame-please").accepts("Bearer open-sesame-please"), Token("open-sesame-please").accepts(None)
    (True, False)
    >>> Token(None).accepts(None)
    True
    """

    def __init__(self, token: str | None) -> None:
        self._digest = None if token is None else sha256(token.encode()).digest()

    @property
    def needed(self) -> bool:
        """Say whether requests must bring one."""
        return self._digest is not None

    def accepts(self, authorization: str | None) -> bool:
        """Say whether this `Authorization` header will do; takes the same time for every wrong one."""
        if self._digest is None:
            return True
        given = authorization or ""
        is_bearer = given[: len(_SCHEME)].lower() == _SCHEME.lower()
        # Digests have one length, so the comparison does not tell that of the token either.
        digest = sha256(given[len(_SCHEME) :].strip().encode("utf-8", "surrogateescape")).digest()
        return hmac.compare_digest(digest, self._digest) and is_bearer


class Rate:
    """A token bucket: so many a second, and as many at once after a quiet second.

    Args:
        per_second: 0 for any number.
        clock: Seconds.
    """

    def __init__(self, per_second: int, clock: Callable[[], float] = monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._left = float(per_second)
        self._at = clock()

    def wait_seconds(self) -> int:
        """Take one; 0 where there was one, else the whole seconds after which there is one again."""
        if self._per_second == 0:
            return 0
        now = self._clock()
        self._left = min(float(self._per_second), self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1.0:
            return max(1, math.ceil((1.0 - self._left) / self._per_second))
        self._left -= 1.0
        return 0
