"""Retrieval, then ranking: the model as learner and serving copies answer with it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from online_model import listing
from online_model.candidates.evidence import SOURCES, Evidence, Examined
from online_model.candidates.queries import Floats, queries
from online_model.candidates.similarity import similarities
from online_model.config import ModelConfig
from online_model.model import Proposal, RecurrentModel
from online_model.popular import Retrieved, excluded_rows, present
from online_model.protocol import Context, Ranked, Request
from online_model.ranker import Ranker
from online_model.scoring import MAX_SCORES, count_at_least
from online_model.vocabulary import RowIndex


@dataclass(frozen=True, slots=True)
class Examination:
    """Contexts with their candidates, and what the first stage thinks of the whole catalogue.

    Attributes:
        part: Which of the contexts.
        examined: Their candidates and signals.
        proposal: What the recurrent model says; its catalogue holds only until another examination begins.
    """

    part: slice
    examined: Examined
    proposal: Proposal


class TwoStageModel:
    """A recurrent model, all that is counted, and a ranker over both.

    Attributes:
        recurrent: The first stage; the only one where the settings ask for no ranking.
        evidence: Counts, which propose candidates too and give the signals.
        ranker: The second stage.
    """

    def __init__(self, config: ModelConfig, index: RowIndex, generator: Generator | None = None) -> None:
        """Build an empty model; without a generator its networks are all zeros, to be filled."""
        self.config = config
        self.recurrent = RecurrentModel(config, index, generator)
        self.evidence = Evidence(config)
        # A generator of its own: the recurrent model is the same with and without a second stage.
        own = None if generator is None else torch.Generator().manual_seed(generator.initial_seed())
        self.ranker = Ranker(config, own)
        self._recalled: tuple[list[Context], list[Examined]] | None = None

    @property
    def ranks(self) -> bool:
        """Whether there is a second stage."""
        return self.config.ranking != "none"

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranked]:
        """Answer requests; see `Recommender`."""
        if not self.ranks:
            return self.recurrent.recommend(requests, k)
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        index = self.recurrent.index
        warm, cold = self._split(requests)
        answers: dict[int, Retrieved] = {}
        for examination in self.examine([requests[place].context for place in warm]):
            part = warm[examination.part]
            for place, found in zip(part, self._lists(examination, [requests[p] for p in part], k), strict=True):
                answers[place] = found
        answers |= zip(cold, self.recurrent.retrieve([requests[place] for place in cold], k), strict=True)
        return [present(index, request, answers[place]) for place, request in enumerate(requests)]

    def rank(self, requests: Sequence[Request], targets: Sequence[str]) -> list[int]:
        """Rank targets among all items that may be listed; see `Recommender`."""
        if not self.ranks:
            return self.recurrent.rank(requests, targets)
        rows = [self.recurrent.index.rows.get(target, -1) for target in targets]
        ranks = [0] * len(requests)
        listable = {p for p, request in enumerate(requests) if rows[p] >= 0 and targets[p] not in request.exclude}
        warm, cold = self._split(requests)
        warm = [place for place in warm if place in listable]
        contexts = [requests[place].context for place in warm]
        found_for: list[Examined] = []
        for examination in self.examine(contexts):
            found_for.append(examination.examined)
            part = warm[examination.part]
            found = self._ranks(examination, [requests[p] for p in part], np.array([rows[p] for p in part], np.int32))
            for place, rank in zip(part, found, strict=True):
                ranks[place] = rank
        self._recalled = contexts, found_for
        left = [place for place in cold if place in listable]
        others = self.recurrent.rank([requests[place] for place in left], [targets[place] for place in left])
        for place, rank in zip(left, others, strict=True):
            ranks[place] = rank
        return ranks

    def examined(self, contexts: Sequence[Context]) -> Examined:
        """Return the candidates of contexts as `examine` finds them, of at least one context.

        Where these very contexts were the last to be ranked and nothing has changed since, it is what was found then.
        """
        recalled, self._recalled = self._recalled, None
        if recalled is not None and _same(recalled[0], contexts):
            return joined(recalled[1])
        return joined([examination.examined for examination in self.examine(contexts)])

    def changed(self) -> None:
        """Take notice that weights, ids or counts are about to change."""
        self._recalled = None

    def examine(self, contexts: Sequence[Context]) -> Iterator[Examination]:
        """Gather candidates with their signals, before any filter, for contexts with a known item in their sitting."""
        if not contexts:
            return
        index = self.recurrent.index
        sequences = [self.recurrent.inputs(context) for context in contexts]
        for proposal in self.recurrent.propose(sequences, self.config.retrieved):
            asked = queries(contexts[proposal.part], lambda item: index.rows.get(item, -1))
            candidates = self.evidence.gather(asked, proposal.rows, len(index))
            scores = self.recurrent.scores_of(proposal, candidates.rows)
            alike = similarities(self.recurrent.table.vectors, asked, candidates.rows)
            yield Examination(proposal.part, self.evidence.complete(candidates, scores, alike), proposal)

    def _split(self, requests: Sequence[Request]) -> tuple[list[int], list[int]]:
        """Places of requests with a known item in their sitting, and of the others: these get what is popular."""
        places: tuple[list[int], list[int]] = ([], [])
        rows = self.recurrent.index.rows
        for place, request in enumerate(requests):
            context = request.context
            start = 0 if self.config.whole_history else context.sitting
            known = any(visit[0] in rows for visit in context.history[start:])
            places[0 if known else 1].append(place)
        return places

    def _allowed_scores(self, examined: Examined, requests: Sequence[Request]) -> Floats:
        """Ranking scores, -inf for candidates that may not be listed."""
        scores = self.ranker.scores(examined)
        listing.leave_out(scores, examined.rows, [excluded_rows(self.recurrent.index, request) for request in requests])
        return scores

    def _lists(self, examination: Examination, requests: Sequence[Request], k: int) -> list[Retrieved]:
        examined = examination.examined
        scores = self._allowed_scores(examined, requests)
        probabilities = self.ranker.probabilities(examined, scores)
        width = min(k, scores.shape[1])
        order, n_listed = listing.best(scores, width)
        lines = np.arange(len(order))[:, None]
        taken, rows, sources = scores[lines, order], examined.rows[lines, order], examined.sources[lines, order]
        chances = None if probabilities is None else probabilities[lines, order]
        lists = []
        for line, n in enumerate(n_listed.tolist()):
            lists.append(
                Retrieved(
                    rows[line, :n].tolist(),
                    taken[line, :n].tolist(),
                    [SOURCES[source] for source in sources[line, :n].tolist()],
                    None if chances is None else chances[line, :n].tolist(),
                    examined.signals[line, order[line, :n]],
                )
            )
        if width < k or bool((n_listed < k).any()):
            lists = self._filled(examination, requests, lists, k)
        return lists

    def _filled(
        self, examination: Examination, requests: Sequence[Request], lists: list[Retrieved], k: int
    ) -> list[Retrieved]:
        """Lists with more places than candidates go on in the order of the first stage."""
        short = [line for line, found in enumerate(lists) if len(found.rows) < k]
        left_out = [self._listed_or_excluded(examination, requests, line) for line in short]
        hidden, catalogue = _of_lines(examination, short)
        rest, best = self.recurrent.best(hidden, left_out, k, catalogue)
        filled = list(lists)
        for line, rows, scores in zip(short, best.cpu().numpy(), rest.cpu().numpy(), strict=True):
            found = lists[line]
            n = min(k - len(found.rows), int(np.isfinite(scores).sum()))
            if n <= 0:
                continue
            # Their scores are of another kind: only their differences go on from the last one listed.
            shift = (found.scores[-1] if found.scores else float(scores[0])) - float(scores[0])
            chances = found.probabilities
            signals = found.signals
            filled[line] = Retrieved(
                found.rows + rows[:n].tolist(),
                found.scores + (scores[:n] + shift).tolist(),
                found.sources + ["recurrent"] * n,
                None if chances is None else chances + [0.0] * n,
                None if signals is None else np.pad(signals, ((0, n), (0, 0))),
            )
        return filled

    def _listed_or_excluded(self, examination: Examination, requests: Sequence[Request], line: int) -> list[int]:
        """Rows that no list may go on with: the candidates, and what may not be listed."""
        rows = examination.examined.rows[line]
        return [*rows[rows >= 0].tolist(), *excluded_rows(self.recurrent.index, requests[line])]

    def _ranks(self, examination: Examination, requests: Sequence[Request], rows: npt.NDArray[np.int32]) -> list[int]:
        examined = examination.examined
        scores = self._allowed_scores(examined, requests)
        places = find(examined, rows)
        lines = np.arange(len(rows))
        own = np.where(places >= 0, scores[lines, np.maximum(places, 0)], -np.inf)
        ranks = (scores >= own[:, None]).sum(1)
        missed = np.flatnonzero(places < 0)
        # An index may have found the candidates of more queries than memory has room to score the catalogue for.
        size = max(1, MAX_SCORES // max(1, len(self.recurrent.index)))
        for start in range(0, len(missed), size):
            part = missed[start : start + size]
            left_out = [self._listed_or_excluded(examination, requests, line) for line in part.tolist()]
            hidden, known = _of_lines(examination, part.tolist())
            catalogue = self.recurrent.scores(hidden, left_out, known)
            columns = torch.from_numpy(rows[part].astype(np.int64)).to(catalogue.device)
            rest = count_at_least(catalogue, catalogue.gather(1, columns[:, None])[:, 0]).cpu().numpy()
            ranks[part] = np.isfinite(scores[part]).sum(1) + rest
        found: list[int] = ranks.tolist()
        return found


def find(examined: Examined, rows: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Return the column of a row among each query's candidates, -1 where it is none of them, int64 [n_queries]."""
    same = examined.rows == rows[:, None]
    return np.where(same.any(1), same.argmax(1), -1)


def joined(parts: Sequence[Examined]) -> Examined:
    """Return several parts as one; those with fewer candidates are filled up."""
    if len(parts) == 1:
        return parts[0]
    widest = max(part.rows.shape[1] for part in parts)
    room = [(0, widest - part.rows.shape[1]) for part in parts]
    pairs = list(zip(parts, room, strict=True))
    return Examined(
        np.concatenate([np.pad(part.rows, ((0, 0), free), constant_values=-1) for part, free in pairs]),
        np.concatenate([np.pad(part.sources, ((0, 0), free), constant_values=-1) for part, free in pairs]),
        np.concatenate([np.pad(part.signals, ((0, 0), free, (0, 0))) for part, free in pairs]),
        np.concatenate([part.facts for part in parts]),
    )


def _of_lines(examination: Examination, lines: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """States of some of the contexts, and the scores of the catalogue where all of it was scored; copies."""
    chosen = torch.tensor(lines, dtype=torch.int64, device=examination.proposal.hidden.device)
    catalogue = examination.proposal.catalogue
    return examination.proposal.hidden[chosen], None if catalogue is None else catalogue[chosen]


def _same(left: Sequence[Context], right: Sequence[Context]) -> bool:
    return len(left) == len(right) and all(one is other for one, other in zip(left, right, strict=True))
