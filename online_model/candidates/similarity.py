"""How near a candidate's vector is to those of the items in the sitting: what no count can tell about rare items."""

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor
from torch.nn import functional

from online_model.candidates.queries import Floats, Ints, Offsets, Queries

SIMILARITIES = ("nearest_cosine", "last_cosine")
_N_LAST = 10
_TINY = 1e-6


def similarities(vectors: Tensor, queries: Queries, candidates: Ints) -> Floats:
    """Compare candidates with the last items of each query's sitting.

    Args:
        vectors: Item vectors, float32 [n_items, hidden].
        queries: Whose sittings.
        candidates: Rows, -1 for none, int32 [n_queries, n_candidates].

    Returns:
        The highest cosine with the vectors of the last ten items, and that with the item that the user is on; 0 where
        the sitting is empty; float32 [n_queries, n_candidates, 2].
    """
    if vectors.device.type == "cpu":
        return _similarities(vectors.numpy(), queries.starts, queries.rows, candidates)
    return on_device(vectors, queries, candidates)


@torch.no_grad()
def on_device(vectors: Tensor, queries: Queries, candidates: Ints) -> Floats:
    """Do what `similarities` does by operations of torch, where the vectors are."""
    last = _last(queries)
    there = torch.from_numpy(last >= 0).to(vectors.device)
    visited = functional.normalize(_taken(vectors, last), dim=2)
    proposed = _taken(vectors, candidates)
    lengths = torch.linalg.vector_norm(proposed, dim=2, keepdim=True).clamp_(min=_TINY)
    cosines = torch.bmm(proposed, visited.transpose(1, 2)).div_(lengths)
    nearest = cosines.masked_fill(~there[:, None], -1.0).amax(2)
    found: Floats = (torch.stack([nearest, cosines[:, :, 0]], 2) * there[:, :1, None]).cpu().numpy()
    return found


def _taken(vectors: Tensor, rows: Ints) -> Tensor:
    """The vectors of rows, any vector for row -1, [*rows.shape, hidden]."""
    flat = torch.from_numpy(np.maximum(rows, 0).ravel()).to(vectors.device)
    return vectors.index_select(0, flat).view(*rows.shape, -1)


def _last(queries: Queries) -> Ints:
    """The last items of each sitting, latest first, -1 beyond them, as wide as the longest."""
    lengths = np.minimum(np.diff(queries.starts), _N_LAST)
    back = np.arange(max(1, int(lengths.max(initial=1))))
    places = np.where(back < lengths[:, None], queries.starts[1:, None] - 1 - back, len(queries.rows))
    return np.append(queries.rows, np.int32(-1))[places].astype(np.int32)


# Sums may be taken in any order: else they would be taken one number at a time.
@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _similarities(vectors: Floats, starts: Offsets, rows: Ints, candidates: Ints) -> npt.NDArray[np.float32]:
    n_queries, n_candidates = candidates.shape
    found = np.zeros((n_queries, n_candidates, 2), np.float32)
    visited = np.empty((_N_LAST, vectors.shape[1]), np.float32)
    for query in range(n_queries):
        n_visited = min(_N_LAST, starts[query + 1] - starts[query])
        for back in range(n_visited):
            vector = vectors[rows[starts[query + 1] - 1 - back]]
            visited[back] = vector / max(np.sqrt(np.sum(vector * vector)), np.float32(1e-12))
        for column in range(n_candidates):
            row = candidates[query, column]
            if row < 0 or n_visited == 0:
                continue
            vector = vectors[row]
            length = max(np.sqrt(np.sum(vector * vector)), np.float32(_TINY))
            nearest = np.float32(-np.inf)
            for back in range(n_visited):
                product = np.float32(0.0)
                for place in range(len(vector)):
                    product += vector[place] * visited[back, place]
                nearest = max(nearest, product)
                if back == 0:
                    found[query, column, 1] = product / length
            found[query, column, 0] = nearest / length
    return found
