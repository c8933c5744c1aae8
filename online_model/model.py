"""The recurrent model as something that answers: what learner and serving copies have in common."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from online_model.candidates.queries import Floats, Ints
from online_model.config import ModelConfig
from online_model.counts import FadingCounts
from online_model.encoders.base import Encoder, pack
from online_model.encoders.build import build_encoder
from online_model.index.catalogue import CatalogueIndex
from online_model.popular import Popular, Retrieved, excluded_rows, present
from online_model.protocol import Context, Ranked, Request
from online_model.scoring import MAX_SCORES, best_columns, count_at_least, score_catalogue, score_rows, top_k
from online_model.table import ItemTable
from online_model.vocabulary import RowIndex

_SCORE_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(config: ModelConfig) -> torch.device:
    """Return the device that the settings ask for.

    Raises:
        ValueError: CUDA is asked for and there is none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device must be auto or cpu: cuda is asked for and torch finds no CUDA device")
    cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if cuda else "cpu")


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the model would list for some sequences, before any filter.

    Attributes:
        part: Which of the sequences.
        hidden: Their states; see `Encoder.encode`.
        rows: The best rows, best first, int32 [n, at most as many as were asked for].
        catalogue: Scores of the whole catalogue, float32 [n, n_items], valid until the next proposal; None where an
            index found the rows.
    """

    part: slice
    hidden: Tensor
    rows: Ints
    catalogue: Tensor | None


class RecurrentModel:
    """Weights, ids and counts, and the answers that follow from them.

    Attributes:
        table: Item vectors and biases.
        encoder: From the items of a sitting to the state that items are scored with.
        counts: What is popular now, by row.
        catalogue_index: Finds the best rows where the catalogue is too large to score all of it.
    """

    def __init__(self, config: ModelConfig, index: RowIndex, generator: Generator | None = None) -> None:
        """Build an empty model; without a generator its encoder is all zeros, to be filled."""
        self.config = config
        self.device = choose_device(config)
        self.table = ItemTable(config.hidden, self.device, _SCORE_TYPES[config.score_dtype])
        self.encoder: Encoder = build_encoder(config, self.device, generator)
        self.counts = FadingCounts(config.popularity_half_life)
        self.catalogue_index = CatalogueIndex(config, self.table)
        self._popular = Popular(index, self.counts)

    @property
    def index(self) -> RowIndex:
        """Item id <-> row."""
        return self._popular.index

    def replace_index(self, index: RowIndex) -> None:
        """Answer with the ids of another index from now on."""
        self._popular.index = index

    def inputs(self, context: Context) -> list[int]:
        """Return the rows that the state is computed from: the known items of the sitting, the last of them."""
        start = 0 if self.config.whole_history else context.sitting
        rows = self.index.rows
        found = [rows[visit[0]] for visit in context.history[start:] if visit[0] in rows]
        return found[-self.config.window :]

    def encode(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Return what each sequence of rows is scored with, none of them empty; see `Encoder.encode`."""
        packing = pack(sequences)
        return self.encoder.encode(self.table.vectors[torch.from_numpy(packing.rows).to(self.device)], packing)

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranked]:
        """Answer requests; see `Recommender`."""
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        return [
            present(self.index, request, retrieved)
            for request, retrieved in zip(requests, self.retrieve(requests, k), strict=True)
        ]

    @torch.no_grad()
    def retrieve(self, requests: Sequence[Request], n: int) -> list[Retrieved]:
        """Return the best `n` items for each request, its excluded ones left out.

        A ranking stage asks here for more candidates than it will list, and orders them anew.
        """
        sequences = [self.inputs(request.context) for request in requests]
        answers: list[Retrieved | None] = [None] * len(requests)
        warm = [place for place, sequence in enumerate(sequences) if sequence]
        for places in self._portions(warm):
            hidden = self.encode([sequences[place] for place in places])
            best, rows = self.best(hidden, [excluded_rows(self.index, requests[place]) for place in places], n)
            for place, values, columns in zip(places, best.tolist(), rows.tolist(), strict=True):
                n_live = sum(value != -np.inf for value in values)
                answers[place] = Retrieved(columns[:n_live], values[:n_live], ["recurrent"] * n_live)
        cold = [place for place, sequence in enumerate(sequences) if not sequence]
        for place, found in zip(cold, self._popular.retrieve([requests[place] for place in cold], n), strict=True):
            answers[place] = found
        return [answer for answer in answers if answer is not None]

    @torch.no_grad()
    def rank(self, requests: Sequence[Request], targets: Sequence[str]) -> list[int]:
        """Rank targets among all items that may be listed; see `Recommender`."""
        ranks = [0] * len(requests)
        rows = [self.index.rows.get(target, -1) for target in targets]
        sequences = [self.inputs(request.context) for request in requests]
        listable = [
            place
            for place, request in enumerate(requests)
            if rows[place] >= 0 and targets[place] not in request.exclude
        ]
        for places in self._portions([place for place in listable if sequences[place]]):
            hidden = self.encode([sequences[place] for place in places])
            scores = self.scores(hidden, [excluded_rows(self.index, requests[place]) for place in places])
            columns = torch.tensor([rows[place] for place in places], device=self.device)
            counts = count_at_least(scores, scores.gather(1, columns[:, None])[:, 0])
            for place, count in zip(places, counts.tolist(), strict=True):
                ranks[place] = count
        for place in listable:
            if not sequences[place]:
                ranks[place] = self._popular.rank(requests[place], rows[place])
        return ranks

    @torch.no_grad()
    def propose(self, sequences: Sequence[Sequence[int]], n: int) -> Iterator[Proposal]:
        """Find the best rows for sequences of rows, none of them empty, as many at a time as memory allows.

        Args:
            sequences: The rows.
            n: How many to find; all where there are fewer.
        """
        for places in self._portions(range(len(sequences))):
            part = slice(places[0], places[-1] + 1)
            hidden = self.encode(sequences[part])
            if self.catalogue_index.active:
                yield Proposal(part, hidden, self.catalogue_index.search(hidden, n)[0], None)
                continue
            catalogue = score_catalogue(hidden, self.table.scored_vectors, self.table.biases)
            yield Proposal(part, hidden, best_columns(catalogue, n), catalogue)

    @torch.no_grad()
    def scores_of(self, proposal: Proposal, rows: Ints) -> Floats:
        """Score some rows for each sequence, any score for row -1; int32 and float32 [n, n_candidates]."""
        if proposal.catalogue is not None and self.device.type == "cpu":
            known: Floats = proposal.catalogue.numpy()[np.arange(len(rows))[:, None], rows]
            return known
        columns = torch.from_numpy(np.maximum(rows, 0)).to(self.device, torch.int64)
        if proposal.catalogue is not None:
            found = proposal.catalogue.gather(1, columns)
        else:
            found = score_rows(proposal.hidden, self.table.vectors, self.table.biases, columns)
        scores: Floats = found.cpu().numpy()
        return scores

    @torch.no_grad()
    def best(
        self, hidden: Tensor, left_out: Sequence[Sequence[int]], n: int, scores: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the best scores and rows for each state, best first; -inf where no further row may stand.

        Args:
            hidden: The states.
            left_out: Rows that may not stand in the answer to each of them.
            n: How many.
            scores: Those of the whole catalogue, where they are known; written in place.
        """
        if not self.catalogue_index.active:
            return top_k(self.scores(hidden, left_out, scores), n)
        rows, found = self.catalogue_index.search(hidden, n + max(map(len, left_out), default=0))
        for line, others in enumerate(left_out):
            found[line, np.isin(rows[line], np.array(others, np.int64))] = -np.inf
        best, places = torch.from_numpy(found).sort(dim=1, descending=True, stable=True)
        return best[:, :n], torch.from_numpy(rows).gather(1, places)[:, :n]

    @torch.no_grad()
    def scores(self, hidden: Tensor, left_out: Sequence[Sequence[int]], scores: Tensor | None = None) -> Tensor:
        """Score the whole catalogue, -inf for the rows left out; float32 [batch, n_items].

        Where scores are given they are taken and written in place; others are valid until this thread scores again.
        """
        if scores is None:
            scores = score_catalogue(hidden, self.table.scored_vectors, self.table.biases)
        pairs = [(line, row) for line, others in enumerate(left_out) for row in others]
        if pairs:
            lines, rows = torch.tensor(pairs, device=self.device).t()
            scores[lines, rows] = -torch.inf
        return scores

    def _portions(self, places: Sequence[int]) -> list[Sequence[int]]:
        size = max(1, MAX_SCORES // max(1, len(self.index)))
        return [places[start : start + size] for start in range(0, len(places), size)]
