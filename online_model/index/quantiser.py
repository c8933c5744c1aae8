"""Which cell of the catalogue a vector belongs to: by its direction, and by how long it is.

People meet few items often and most of them hardly ever, and a vector is as long as it has been taught: the best items
for a state are nearly all among the longest vectors, in directions near its own. A plain inverted index, which cuts by
place, spreads the many untaught vectors over its cells and misses a third of the best.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from online_model.candidates.queries import Ints

# Bands of length: most of a catalogue is short, and what is looked for is long.
_BANDS = (0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
N_BANDS = len(_BANDS) + 1
_MOST_DIRECTIONS = 256
_SAMPLES_A_DIRECTION = 80
_ROUNDS = 8
# How far from its cell's mean an item may point towards a state: half of what random vectors of this width have at
# their furthest. Larger values visit more cells with long vectors, smaller ones more cells in the state's direction.
_SPREAD = 0.25
_TINY = 1e-12
# Vectors at a time: their products with all directions stay in the cache.
_CHUNK = 8_192
_PARTS = ("directions", "edges", "lengths", "alignments", "facts")


@dataclass(frozen=True, slots=True)
class Quantiser:
    """Cells of a catalogue; a vector's cell depends on the vector and on this alone.

    Vectors are those of items with their bias as one more element.

    Attributes:
        directions: Of unit length, float32 [n_directions, hidden + 1].
        edges: Lengths at which a band ends and the next begins, float32 [N_BANDS - 1].
        lengths: Mean length in each band, float32 [N_BANDS].
        alignments: Mean cosine of an item and its cell's direction in each band, float32 [N_BANDS].
        n_items: Size of the catalogue that it was made for.
        version: Mini-batches that the learner had learned by then.
    """

    directions: Tensor
    edges: Tensor
    lengths: Tensor
    alignments: Tensor
    n_items: int
    version: int

    @property
    def n_cells(self) -> int:
        """Cells, those of one direction side by side."""
        return len(self.directions) * N_BANDS

    @torch.no_grad()
    def cells(self, vectors: Tensor, biases: Tensor) -> Ints:
        """Return each vector's cell, int32 [n].

        Args:
            vectors: float32 [n, hidden].
            biases: float32 [n].
        """
        found = np.empty(len(vectors), np.int32)
        for start in range(0, len(vectors), _CHUNK):
            part = slice(start, start + _CHUNK)
            found[part] = self._assigned(_joined(vectors[part], biases[part]))[0]
        return found

    @torch.no_grad()
    def order(self, hidden: Tensor) -> Ints:
        """Return all cells in the order in which they are worth a visit, int32 [batch, n_cells].

        A cell promises the score of an item of its mean length that points towards the state as much as few of it do.

        Args:
            hidden: States, float32 [batch, hidden] or [batch, n_vectors, hidden]: then the best of the vectors counts.
        """
        states = hidden[:, None] if hidden.dim() == 2 else hidden
        states = torch.nn.functional.pad(states, (0, 1), value=1.0)
        lengths = torch.linalg.vector_norm(states, dim=2, keepdim=True).clamp_(min=_TINY)
        cosines = ((states @ self.directions.t()) / lengths)[..., None]
        along = cosines * self.alignments
        aside = (1 - cosines.square()).clamp_(min=0).sqrt() * (1 - self.alignments.square()).clamp(min=0).sqrt()
        promise = (along + _SPREAD * aside) * self.lengths
        # The bias stands in every state alike, so states of different lengths promise different things.
        best = (promise.flatten(2) * lengths).amax(1)
        return np.argsort(-best.numpy(), axis=1, kind="stable").astype(np.int32)

    def tensors(self) -> dict[str, Tensor]:
        """Return it as named tensors, shared with it."""
        facts = torch.tensor([self.n_items, self.version], dtype=torch.int64)
        return dict(zip(_PARTS, (self.directions, self.edges, self.lengths, self.alignments, facts), strict=True))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Quantiser | None":
        """Return what `tensors` was taken from; None where it holds nothing.

        Raises:
            KeyError: A part is missing.
        """
        if not tensors:
            return None
        directions, edges, lengths, alignments, facts = (tensors[name] for name in _PARTS)
        n_items, version = facts.tolist()
        return cls(directions, edges, lengths, alignments, n_items, version)

    def _assigned(self, vectors: Tensor) -> tuple[Ints, Tensor, Tensor]:
        """Cells, cosines with their directions, and lengths."""
        products, directions = (vectors @ self.directions.t()).max(1)
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        bands = torch.bucketize(lengths, self.edges)
        cells: Ints = (directions * N_BANDS + bands).numpy().astype(np.int32)
        return cells, products / lengths.clamp(min=_TINY), lengths


@torch.no_grad()
def train(vectors: Tensor, biases: Tensor, *, version: int, seed: int) -> Quantiser:
    """Make cells for a catalogue of at least one item; the same for the same vectors and seed.

    Source: spherical k-means, Dhillon and Modha 2001, Machine Learning 42, on vectors drawn by the fourth power of
    their length.
    """
    n_items = len(vectors)
    lengths = (vectors.square().sum(1) + biases.square()).sqrt_()
    chance = np.random.default_rng(seed)
    n_directions = max(1, min(_MOST_DIRECTIONS, round(n_items**0.5 / 4)))
    drawn = _drawn(lengths.numpy(), n_directions * _SAMPLES_A_DIRECTION, chance)
    sample = _joined(vectors[drawn], biases[drawn])
    sample /= torch.linalg.vector_norm(sample, dim=1, keepdim=True).clamp_(min=_TINY)
    n_directions = min(n_directions, len(sample))
    directions = _directions(sample, chance.permutation(len(sample))[:n_directions])
    edges = torch.from_numpy(np.quantile(lengths.numpy(), _BANDS).astype(np.float32))
    bare = Quantiser(directions, edges, torch.zeros(N_BANDS), torch.zeros(N_BANDS), n_items, version)
    bands = torch.bucketize(lengths, edges).numpy()
    counts = np.maximum(np.bincount(bands, minlength=N_BANDS), 1)
    means = np.bincount(bands, lengths.numpy(), N_BANDS) / counts
    return replace(
        bare,
        lengths=torch.from_numpy(means.astype(np.float32)),
        alignments=_alignments(bare, vectors, biases, bands),
    )


def _drawn(lengths: npt.NDArray[np.float32], n: int, chance: np.random.Generator) -> Tensor:
    """Rows drawn by the fourth power of their length, each once, ascending."""
    sums = np.cumsum(lengths.astype(np.float64) ** 4 + _TINY)
    rows = np.searchsorted(sums, chance.random(n) * sums[-1])
    return torch.from_numpy(np.unique(np.minimum(rows, len(lengths) - 1)))


def _directions(sample: Tensor, first: npt.NDArray[np.int64]) -> Tensor:
    directions = sample[torch.from_numpy(first)].clone()
    for _ in range(_ROUNDS):
        nearest = (sample @ directions.t()).argmax(1)
        sums = torch.zeros_like(directions).index_add_(0, nearest, sample)
        lengths = torch.linalg.vector_norm(sums, dim=1, keepdim=True)
        # One that nothing is near to any more stays where it was.
        directions = torch.where(lengths > _TINY, sums / lengths.clamp(min=_TINY), directions)
    return directions


def _alignments(bare: Quantiser, vectors: Tensor, biases: Tensor, bands: npt.NDArray[np.int64]) -> Tensor:
    """Mean cosine of items and directions by band, over at most some thousand items of each."""
    means = torch.zeros(N_BANDS)
    for band in range(N_BANDS):
        members = np.flatnonzero(bands == band)
        members = members[:: max(1, len(members) // 2_000)]
        if len(members):
            rows = torch.from_numpy(members)
            means[band] = bare._assigned(_joined(vectors[rows], biases[rows]))[1].mean()
    return means


def _joined(vectors: Tensor, biases: Tensor) -> Tensor:
    return torch.cat([vectors, biases[:, None]], 1)
