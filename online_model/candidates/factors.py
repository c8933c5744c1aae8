"""Item-item matrix factorisation learned online: vectors of items as they are left, and as they are turned to."""

import numpy as np
import torch
from torch import Tensor

from online_model.candidates.queries import Ints, Occurrences, Queries
from online_model.candidates.sparse import SparseScores
from online_model.losses import bpr_max
from online_model.optimizer import RowAdagrad
from online_model.protocol import State
from online_model.scoring import score_catalogue, top_k
from online_model.states import missing_parts_named
from online_model.table import grow
from online_model.vocabulary import Rows

_LOSS_NORM = 128.0


class Factors:
    """Scores of items as products of two vectors, learned by one gradient step for each fold; see `CandidateSource`.

    A query is the mean of its last items' vectors, later ones counting for more; only its best rows are answered, by
    the exponential of how far they stand behind the best of all.

    Source: Kabbur et al. 2013 (FISM), KDD; Rendle et al. 2010 (FPMC), WWW; loss: `bpr_max`.
    """

    name = "factors"
    signals = ("factors",)

    def __init__(
        self,
        hidden: int = 100,
        *,
        n_best: int = 100,
        last: int = 10,
        fade: float = 0.9,
        learning_rate: float = 0.3,
        negatives: int = 512,
        regularisation: float = 0.3,
        init: float = 0.1,
        birth: float = 1.0,
        seed: int = 1,
    ) -> None:
        """Start with no items.

        Args:
            hidden: Width of vectors.
            n_best: Rows that are answered for one query.
            last: Items of a query that count.
            fade: What the item before counts for against the one after it.
            learning_rate: Adagrad's.
            negatives: Rows drawn uniformly for each step.
            regularisation: Weight of the negatives' squared scores.
            init: First vectors are uniform in (-init, init).
            birth: Share of the vector of the query that first led to an item in the item's first vector.
            seed: Of all random numbers.
        """
        self._hidden, self._n_best, self._last, self._fade = hidden, n_best, last, fade
        self._learning_rate, self._negatives, self._regularisation = learning_rate, negatives, regularisation
        self._init, self._birth = init, birth
        self._generator = torch.Generator().manual_seed(seed)
        self._n_rows = 0
        # Side by side: left, turned to. A step that leaves one half alone has no gradient there and moves nothing.
        self._vectors = torch.zeros(1024, 2 * hidden)
        self._fresh = torch.zeros(1024, dtype=torch.bool)
        self._biases = torch.zeros(1024)
        self._squares = RowAdagrad(learning_rate, 2 * hidden, torch.device("cpu"))

    def score(self, queries: Queries) -> SparseScores:
        """Return the best rows of each query that has a known item; see `CandidateSource`."""
        inputs, shares = self._inputs(queries)
        asked = np.flatnonzero(shares.sum(1).numpy() > 0)
        if len(asked) == 0:
            none = np.zeros(len(queries) + 1, np.int64)
            return SparseScores(none, np.zeros(0, np.int32), np.zeros((0, 1), np.float32))
        users = shares[asked] @ self._vectors[inputs, : self._hidden]
        scores = score_catalogue(users, self._vectors[: self._n_rows, self._hidden :], self._biases[: self._n_rows])
        best, rows = top_k(scores, self._n_best)
        counts = np.zeros(len(queries), np.int64)
        counts[asked] = rows.shape[1]
        values = (best - best[:, :1]).clamp_(min=-80.0).exp_()
        return SparseScores(
            np.concatenate([[0], counts.cumsum()]), rows.flatten().numpy().astype(np.int32), values.view(-1, 1).numpy()
        )

    def fold(self, occurrences: Occurrences) -> None:
        """Take one step; see `CandidateSource`."""
        queries, items = occurrences.queries, occurrences.items
        self._admit(max(int(items.max(initial=-1)), int(queries.rows.max(initial=-1))) + 1)
        inputs, shares = self._inputs(queries)
        currents = np.where(
            np.diff(queries.starts) > 0, np.append(queries.rows, np.int32(-1))[queries.starts[1:] - 1], -1
        )
        taken = np.flatnonzero(
            (items >= 0) & (occurrences.weights > 0) & (shares.sum(1).numpy() > 0) & (items != currents)
        )
        self._bear(inputs, shares[taken], items[taken].astype(np.int64))
        if len(taken) and self._n_rows > 2:
            weights = torch.from_numpy(occurrences.weights[taken])
            self._step(inputs, shares[taken], items[taken].astype(np.int64), currents[taken], weights)

    def forget(self, rows: Rows) -> None:
        """Give rows fresh vectors; see `CandidateSource`."""
        known = torch.from_numpy(rows[rows < self._n_rows])
        self._vectors[known] = self._first_vectors(len(known))
        self._biases[known] = 0.0
        self._fresh[known] = True
        self._squares.forget(known)

    def state(self, n_rows: int) -> State:
        """Return a copy of everything; see `CandidateSource`."""
        size = self._n_rows
        return State(
            {
                "vectors": self._vectors[:size].clone(),
                "biases": self._biases[:size].clone(),
                "vector_squares": self._squares.vectors[:size].clone(),
                "bias_squares": self._squares.biases[:size].clone(),
                "fresh": self._fresh[:size].clone(),
                "generator": self._generator.get_state(),
            }
        )

    def load_state(self, state: State) -> None:
        """Become the factors that `state` was taken from; see `CandidateSource`."""
        with missing_parts_named():
            vectors, biases = state.tensors["vectors"], state.tensors["biases"]
            squares = state.tensors["vector_squares"], state.tensors["bias_squares"]
            fresh = state.tensors["fresh"]
            generator = state.tensors["generator"]
        size, width = vectors.shape
        if width != 2 * self._hidden:
            raise ValueError(f"the saved vectors have {width // 2} numbers, the settings say {self._hidden}")
        room = max(1024, size)
        self._n_rows = size
        self._vectors, self._biases = grow(vectors.clone(), room), grow(biases.clone(), room)
        self._fresh = grow(fresh.clone(), room)
        self._squares = RowAdagrad(self._learning_rate, width, torch.device("cpu"))
        self._squares.vectors, self._squares.biases = grow(squares[0].clone(), room), grow(squares[1].clone(), room)
        self._generator.set_state(generator)

    def _inputs(self, queries: Queries) -> tuple[Tensor, Tensor]:
        """Distinct rows among the last items of all queries, and each query's share of each, [n_queries, n_inputs]."""
        places = queries.starts[1:, None] - 1 - np.arange(self._last)
        rows = np.append(queries.rows, np.int32(-1))[np.where(places >= queries.starts[:-1, None], places, -1)]
        known = (rows >= 0) & (rows < self._n_rows)
        inputs, columns = np.unique(rows[known], return_inverse=True)
        fading = np.where(known, self._fade ** np.arange(self._last), 0.0)
        fading /= np.maximum(fading.sum(1, keepdims=True), 1e-9)
        shares = np.zeros((len(queries), len(inputs)), np.float32)
        np.add.at(shares, (np.nonzero(known)[0], columns), fading[known])
        return torch.from_numpy(inputs.astype(np.int64)), torch.from_numpy(shares)

    def _step(self, inputs: Tensor, shares: Tensor, items: Rows, currents: Ints, weights: Tensor) -> None:
        """Move the vectors of inputs, targets and drawn negatives."""
        drawn = torch.randint(self._n_rows, (self._negatives,), generator=self._generator).numpy()
        candidates = np.unique(np.concatenate([items, drawn]))
        positive = np.searchsorted(candidates, items)
        left_out = (candidates == items[:, None]) | (candidates == currents[:, None])
        users = shares @ self._vectors[inputs, : self._hidden]
        columns = torch.from_numpy(candidates)
        turned = self._vectors[columns, self._hidden :]
        scores = torch.addmm(self._biases[columns], users, turned.t()).requires_grad_()
        losses = bpr_max(
            scores,
            torch.from_numpy(positive),
            torch.from_numpy(left_out),
            weights,
            regularisation=self._regularisation,
            elu=1.0,
        )
        (slope,) = torch.autograd.grad(losses.sum() / _LOSS_NORM, scores)
        rows, where = np.unique(np.concatenate([candidates, inputs.numpy()]), return_inverse=True)
        touched, places = torch.from_numpy(rows), torch.from_numpy(where)
        vectors, biases = torch.zeros(len(touched), 2 * self._hidden), torch.zeros(len(touched))
        vectors[places[: len(columns)], self._hidden :] = slope.t() @ users
        vectors[places[len(columns) :], : self._hidden] = shares.t() @ (slope @ turned)
        biases[places[: len(columns)]] = slope.sum(0)
        vector_steps, bias_steps = self._squares.steps(touched, vectors, biases)
        self._vectors.index_add_(0, touched, vector_steps)
        self._biases.index_add_(0, touched, bias_steps)

    def _admit(self, n_rows: int) -> None:
        """Give first vectors to rows up to this number."""
        if n_rows <= self._n_rows:
            return
        if n_rows > len(self._vectors):
            room = max(n_rows, 2 * len(self._vectors))
            self._vectors, self._biases = grow(self._vectors, room), grow(self._biases, room)
            self._fresh = grow(self._fresh, room)
        self._squares.reserve(n_rows)
        self._vectors[self._n_rows : n_rows] = self._first_vectors(n_rows - self._n_rows)
        self._fresh[self._n_rows : n_rows] = True
        self._n_rows = n_rows

    def _bear(self, inputs: Tensor, shares: Tensor, items: Rows) -> None:
        """Place items that nobody was led to before near the first query that did."""
        born, first = np.unique(items, return_index=True)
        new = self._fresh[torch.from_numpy(born)].numpy()
        rows = torch.from_numpy(born[new])
        users = shares[torch.from_numpy(first[new])] @ self._vectors[inputs, : self._hidden]
        self._vectors[rows, self._hidden :] += self._birth * users
        self._fresh[rows] = False

    def _first_vectors(self, n: int) -> Tensor:
        return torch.empty(n, 2 * self._hidden).uniform_(-self._init, self._init, generator=self._generator)
