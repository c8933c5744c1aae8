"""What serving copies are told about counts: not their values, but what happened, so that they count for themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from online_model.candidates.queries import Occurrences, Queries
from online_model.vocabulary import Rows

_QUERY_PARTS = ("starts", "rows", "older_starts", "older", "visits", "pauses")
_PARTS = ("items", "visits", "weights")


@dataclass(frozen=True, slots=True)
class Fold:
    """One step of the counts: rows that changed hands first, then what happened.

    Attributes:
        forgotten: Rows that got a new tenant, int64 [n].
        occurrences: What happened; None for nothing.
    """

    forgotten: Rows
    occurrences: Occurrences | None


def to_tensors(folds: Sequence[Fold]) -> dict[str, Tensor]:
    """Return folds as named tensors; these share memory with them."""
    tensors = {}
    for number, fold in enumerate(folds):
        tensors[f"{number}.forgotten"] = torch.from_numpy(fold.forgotten)
        happened = fold.occurrences
        if happened is None:
            continue
        for part in _QUERY_PARTS:
            tensors[f"{number}.query.{part}"] = torch.from_numpy(_plain(getattr(happened.queries, part)))
        for part in _PARTS:
            tensors[f"{number}.{part}"] = torch.from_numpy(_plain(getattr(happened, part)))
    return tensors


def from_tensors(tensors: Mapping[str, Tensor]) -> list[Fold]:
    """Return the folds that `to_tensors` was given.

    Raises:
        KeyError: A part is missing.
    """
    n_folds = sum(name.endswith(".forgotten") for name in tensors)
    return [_fold(number, tensors) for number in range(n_folds)]


def _fold(number: int, tensors: Mapping[str, Tensor]) -> Fold:
    forgotten = tensors[f"{number}.forgotten"].numpy()
    if f"{number}.items" not in tensors:
        return Fold(forgotten, None)
    query = {part: tensors[f"{number}.query.{part}"].numpy() for part in _QUERY_PARTS}
    query["visits"] = query["visits"].view(np.uint64)
    own = {part: tensors[f"{number}.{part}"].numpy() for part in _PARTS}
    own["visits"] = own["visits"].view(np.uint64)
    return Fold(forgotten, Occurrences(Queries(**query), **own))


def _plain(array: "np.ndarray[tuple[int], np.dtype[np.generic]]") -> "np.ndarray[tuple[int], np.dtype[np.generic]]":
    """Unsigned keys travel as signed ones: torch and safetensors know these everywhere."""
    return array.view(np.int64) if array.dtype == np.uint64 else array
