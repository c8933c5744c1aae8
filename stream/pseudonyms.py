"""Users under another name: what leaves the scorer for the log of examples must not carry their ids."""

import hmac
import os
import secrets
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

KEY_BYTES = 32
PSEUDONYM_BYTES = 12


def load_key(data_dir: Path) -> bytes:
    """Return the key of the pseudonyms, made at the first call for this data folder.

    Raises:
        ValueError: The file is there and is no key.
        OSError: The folder cannot be read or written.
    """
    path = data_dir / "pseudonyms.key"
    if not path.exists():
        temporary = path.with_suffix(f".{os.getpid()}")
        with open(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # the first of two processes wins
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path}: expected a key of {KEY_BYTES} bytes, got {len(key)}")
    return key


def pseudonymizer(key: bytes) -> Callable[[str], str]:
    """Return the function from a user's id to a name that only the key's holder can tie to it."""

    @lru_cache(maxsize=131_072)
    def pseudonym(user_id: str) -> str:
        return hmac.digest(key, user_id.encode(), "sha256")[:PSEUDONYM_BYTES].hex()

    return pseudonym
