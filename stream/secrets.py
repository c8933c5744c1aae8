"""Passwords and tokens: read from a file or the settings, and never shown."""

from pathlib import Path
from typing import Final, TypeAlias

from pydantic import SecretStr

Secret: TypeAlias = str | None
LONGEST_SECRET_BYTES = 65_536
_TELLING: Final = ("password", "secret", "token", "pem", "jaas", "credential")


def is_secret(name: str) -> bool:
    """Say whether what is called so must not be shown.

    >>> is_secret("kafka.sasl_password"), is_secret("web.token"), is_secret("web.port")
    (True, True, False)
    """
    return any(word in name.lower() for word in _TELLING)


def secret_of(name: str, given: SecretStr | None, file: Path | None) -> Secret:
    """Return a secret from where it is kept; None where there is none.

    Args:
        name: Of the setting, for the error.
        given: The secret itself.
        file: Of which it is the content; one line break at the end does not count.

    Raises:
        ValueError: Both are given, or the file cannot be used; the message does not hold the secret.
    """
    if given is not None and file is not None:
        raise ValueError(f"{name} and {name}_file: expected one of the two")
    if file is None:
        return None if given is None else given.get_secret_value()
    try:
        with file.open("rb") as opened:
            content = opened.read(LONGEST_SECRET_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{name}_file: {file} cannot be read: {error.strerror}") from None
    try:
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError(f"{name}_file: {file} is no text") from None
    if not text or "\n" in text or len(content) > LONGEST_SECRET_BYTES:
        raise ValueError(f"{name}_file: {file}: expected one line that is not empty")
    return text
