"""What every `load_state` promises of a state that does not fit."""

from collections.abc import Iterator
from contextlib import contextmanager

from online_model.protocol import State


@contextmanager
def missing_parts_named() -> Iterator[None]:
    """Turn a part that a state does not have into the `ValueError` that `load_state` promises."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"the saved model lacks {error}") from error


def check_kind(state: State, kind: str, hidden: int | None = None) -> None:
    """Refuse a state that is not of this kind and size of model.

    Raises:
        ValueError: The message names both.
    """
    if state.metadata.get("kind") != kind:
        raise ValueError(f"the saved model is of kind {state.metadata.get('kind')!r}, this one is {kind!r}")
    if hidden is not None and state.metadata.get("hidden") != hidden:
        raise ValueError(
            f"the saved model has hidden = {state.metadata.get('hidden')}, the settings say hidden = {hidden}: "
            "set it back, or start with an empty checkpoint folder"
        )
