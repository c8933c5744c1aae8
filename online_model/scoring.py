"""Scores of the whole catalogue, their exact best, and exact ranks: the one way that all copies of the model score."""

import threading

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor

# Rows scored at a time on a CPU: the block of scores stays in the cache that wrote it.
_CHUNK = 4096
# Items whose maximum is looked at before the items themselves.
_BLOCK = 64
# Scores held at once, 128 MiB as float32; requests beyond that wait their turn.
MAX_SCORES = 2**25

_scratch = threading.local()


def score_catalogue(hidden: Tensor, vectors: Tensor, biases: Tensor) -> Tensor:
    """Score every item for every state.

    Args:
        hidden: States, float32 [batch, hidden] or [batch, n_vectors, hidden]; see `pool`.
        vectors: Item vectors, [n_items, hidden]; products are taken in their type.
        biases: float32 [n_items].

    Returns:
        float32 [batch, n_items], valid until this thread scores again.
    """
    hidden = hidden.to(vectors.dtype)
    if hidden.device.type != "cpu":
        return _products(hidden, vectors).float().add_(biases)
    n_items = len(vectors)
    # Fresh memory of this size costs as much as the product: it comes from the system page by page.
    scores = _scratch_memory(len(hidden) * n_items).view(len(hidden), n_items)
    for start in range(0, n_items, _CHUNK):
        end = min(start + _CHUNK, n_items)
        if vectors.dtype == torch.float32 and hidden.dim() == 2:
            torch.addmm(biases[start:end], hidden, vectors[start:end].t(), out=scores[:, start:end])
        else:
            torch.add(_products(hidden, vectors[start:end]), biases[start:end], out=scores[:, start:end])
    return scores


def score_rows(hidden: Tensor, vectors: Tensor, biases: Tensor, rows: Tensor) -> Tensor:
    """Score some items for every state.

    Args:
        hidden: States; see `score_catalogue`.
        vectors: Item vectors, float32 [n_items, hidden].
        biases: float32 [n_items].
        rows: Which items, int64 [batch, n].

    Returns:
        float32 [batch, n].
    """
    chosen = vectors.index_select(0, rows.flatten()).view(*rows.shape, -1)
    states = hidden[:, None] if hidden.dim() == 2 else hidden
    products = torch.bmm(states, chosen.transpose(1, 2))
    return (products[:, 0] if hidden.dim() == 2 else pool(products)) + biases[rows]


def pool(products: Tensor) -> Tensor:
    """Make one score of an item's products with several vectors: each counts by the softmax of all.

    Args:
        products: [batch, n_vectors, ...].

    Returns:
        [batch, ...].
    """
    return (products.softmax(1) * products).sum(1)


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the best `k` scores of each row and their columns: best first, of equal ones the lower column first.

    Args:
        scores: [batch, n_items]; left untouched.
        k: How many; all where there are fewer items.

    Returns:
        Scores and columns, [batch, min(k, n_items)].
    """
    n_items = scores.shape[1]
    k = min(k, n_items)
    values, columns = _block_candidates(scores, k + 1)
    best, places = values.topk(min(k + 1, values.shape[1]), dim=1)
    columns = columns.gather(1, places)
    tied = best[:, k - 1].eq(best[:, -1]) & best[:, k - 1].isfinite() if best.shape[1] > k > 0 else None
    best, columns = best[:, :k], columns[:, :k]
    by_column = columns.argsort(1)
    best, places = best.gather(1, by_column).sort(dim=1, descending=True, stable=True)
    columns = columns.gather(1, by_column).gather(1, places)
    if tied is not None and bool(tied.any()):
        # Equal scores stand on both sides of the cut: only a full sort says which of them have the lowest columns.
        for row in tied.nonzero()[:, 0].tolist():
            best[row], columns[row] = (
                part[:k] for part in torch.sort(scores[row], stable=True, dim=0, descending=True)
            )
    return best, columns


def best_columns(scores: Tensor, k: int) -> npt.NDArray[np.int32]:
    """Return the columns that `top_k` returns, int32 [batch, min(k, n_items)]; scores are finite."""
    k = min(k, scores.shape[1])
    if scores.device.type != "cpu":
        return top_k(scores, k)[1].cpu().numpy().astype(np.int32)
    return _best_columns(scores.numpy(), k)


# No score is NaN, and there is no telling 0 from -0: a block's maximum is found many numbers at a time.
@njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})
def _largest(scores: npt.NDArray[np.float32]) -> np.float32:
    largest: np.float32 = scores[0]
    for score in scores:
        largest = max(largest, score)
    return largest


@njit(cache=True, nogil=True)
def _best_columns(scores: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int32]:
    n_lines, n_items = scores.shape
    found = np.empty((n_lines, k), np.int32)
    best = np.empty(k, np.float32)
    for line in range(n_lines):
        columns, size = found[line], 0
        for start in range(0, n_items, _BLOCK):
            end = min(start + _BLOCK, n_items)
            if size == k and _largest(scores[line, start:end]) <= best[k - 1]:
                continue
            for column in range(start, end):
                score = scores[line, column]
                if size == k and score <= best[k - 1]:
                    continue
                # Columns come in their order, so an equal score stands behind those that are there.
                place = size if size < k else k - 1
                while place > 0 and best[place - 1] < score:
                    best[place], columns[place] = best[place - 1], columns[place - 1]
                    place -= 1
                best[place], columns[place] = score, column
                size = min(k, size + 1)
    return found


def _products(hidden: Tensor, vectors: Tensor) -> Tensor:
    return torch.mm(hidden, vectors.t()) if hidden.dim() == 2 else pool(hidden @ vectors.t())


def count_at_least(scores: Tensor, thresholds: Tensor, lines: Tensor | None = None) -> Tensor:
    """Return how many scores of each line reach its threshold, int64 [n_lines].

    Args:
        scores: [batch, n_items].
        thresholds: [n_lines].
        lines: Which lines of the scores, int64 [n_lines]; all of them by default.
    """
    if scores.device.type != "cpu":
        return ((scores if lines is None else scores[lines]) >= thresholds[:, None]).sum(1)
    # NumPy counts a line of truths several times faster than torch sums them.
    every = scores.numpy()
    chosen = range(len(every)) if lines is None else lines.tolist()
    counts = [int((every[line] >= limit).sum()) for line, limit in zip(chosen, thresholds.numpy(), strict=True)]
    return torch.tensor(counts, dtype=torch.int64)


def _block_candidates(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The scores among which the best `k` are, and their columns: those of the `k` blocks with the highest maxima."""
    n_items = scores.shape[1]
    n_blocks = n_items // _BLOCK
    if n_blocks <= 2 * k:
        return scores, torch.arange(n_items, device=scores.device).expand(len(scores), -1)
    maxima = scores[:, : n_blocks * _BLOCK].view(len(scores), n_blocks, _BLOCK).amax(2)
    blocks = maxima.topk(k, dim=1).indices
    within = torch.arange(_BLOCK, device=scores.device)
    columns = (blocks[:, :, None] * _BLOCK + within).flatten(1)
    rest = torch.arange(n_blocks * _BLOCK, n_items, device=scores.device).expand(len(scores), -1)
    columns = torch.cat([columns, rest], 1)
    return scores.gather(1, columns), columns


def _scratch_memory(n_floats: int) -> Tensor:
    memory: Tensor | None = getattr(_scratch, "memory", None)
    if memory is None or len(memory) < n_floats:
        memory = _scratch.memory = torch.empty(n_floats + n_floats // 4)
    return memory[:n_floats]
