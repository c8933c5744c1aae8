"""One gradient step: from lessons to the gradients of the rows and weights that they touch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from online_model.cloze import with_holes
from online_model.encoders.base import pack
from online_model.latest import LatestRows
from online_model.lessons import Lessons
from online_model.losses import bpr_max, push_down
from online_model.model import RecurrentModel
from online_model.protocol import ModelDiverged
from online_model.scoring import pool
from online_model.table import ItemTable
from online_model.vocabulary import Rows

# Items from which a table with a place for each of them costs more than to sort the rows of a step.
_LARGE = 65_536


@dataclass(frozen=True, slots=True)
class Gradients:
    """What a step will do.

    Attributes:
        loss: Mean loss over the targets; None where there was no target.
        rows: Touched rows, each once, int64 [n].
        vectors: Gradients of their vectors, float32 [n, hidden].
        biases: Gradients of their biases, float32 [n].
        dense: Gradients of the encoder's weights.
    """

    loss: float | None
    rows: Rows
    vectors: Tensor
    biases: Tensor
    dense: dict[str, Tensor]


def gradients(model: RecurrentModel, lessons: Lessons, latest: LatestRows, generator: Generator) -> Gradients | None:
    """Compute the gradients of a batch; changes nothing but the generator.

    Args:
        model: The weights.
        lessons: What to learn, as rows.
        latest: Targets of late, that some of the negatives are drawn from.
        generator: Draws the negatives.

    Returns:
        The gradients; None where there is nothing to learn, or nothing to compare a target with.

    Raises:
        ModelDiverged: The loss or a gradient is not finite.
    """
    n_items = len(model.index)
    if not lessons.items or n_items < 3:
        return None
    lessons, holes = with_holes(lessons, model.encoder.cloze, generator)
    config, n_targets = model.config, lessons.n_targets
    packing = pack(lessons.sequences, holes)
    items = np.array(lessons.items, np.int64)
    recent = latest.draw(round(config.negatives * config.recent_negatives), generator)
    drawn = torch.randint(n_items, (config.negatives - len(recent),), generator=generator).numpy()
    candidates = _unique(n_items, items[:n_targets], drawn, recent)

    inputs, _ = _weights(model.table, packing.rows)
    scored, biases = _weights(model.table, candidates)
    turned_away, turned_away_biases = _weights(model.table, items[n_targets:])
    hidden = model.encoder.encode(inputs, packing)
    importance = torch.tensor(lessons.weights, device=model.device)
    scores = _against_all(hidden[:n_targets], scored, biases)
    losses = bpr_max(
        scores,
        *_columns(n_items, candidates, items[:n_targets], _currents(lessons, config.repeats), model.device),
        importance[:n_targets],
        regularisation=config.score_regularisation,
        elu=config.elu,
    )
    sinking = _against(hidden[n_targets:], turned_away) + turned_away_biases
    unwanted = push_down(sinking, importance[n_targets:]).sum()
    total = losses.sum() + config.negative_weight * unwanted

    dense = dict(model.encoder.weights())
    parts = [inputs, scored, biases, turned_away, turned_away_biases]
    found = torch.autograd.grad(total / config.loss_norm, [*parts, *dense.values()])
    # One number tells whether all are finite, and one trip from the device fetches it.
    squares = torch.stack([total.detach(), *(gradient.flatten().dot(gradient.flatten()) for gradient in found)])
    if not bool(squares.sum().isfinite()):
        raise ModelDiverged(f"loss {float(total.detach())} over {len(items)} lessons: it or a gradient is not finite")
    rows = np.concatenate([candidates, _unique(n_items, packing.rows, items[n_targets:], leave_out=candidates)])
    turned = _places(n_items, rows, items[n_targets:])
    return Gradients(
        float(losses.detach().sum()) / n_targets if n_targets else None,
        rows,
        _sum(len(rows), found[1], (_places(n_items, rows, packing.rows), found[0]), (turned, found[3])),
        _sum(len(rows), found[2], (turned, found[4])),
        dict(zip(dense, found[len(parts) :], strict=True)),
    )


def _weights(table: ItemTable, rows: Rows) -> tuple[Tensor, Tensor]:
    """Copies of rows that take gradients: vectors [n, hidden] and biases [n]; a row may stand there several times."""
    vectors, biases = table.copies(torch.from_numpy(rows).to(table.device))
    return vectors.requires_grad_(), biases.requires_grad_()


def _against_all(hidden: Tensor, vectors: Tensor, biases: Tensor) -> Tensor:
    """Score all items for each state, [batch, n_items]."""
    if hidden.dim() == 2:
        return torch.addmm(biases, hidden, vectors.t())
    return pool(hidden @ vectors.t()) + biases


def _against(hidden: Tensor, vectors: Tensor) -> Tensor:
    """Score one item for each state, [batch]."""
    if hidden.dim() == 2:
        return (hidden * vectors).sum(1)
    return pool((hidden * vectors[:, None]).sum(2))


def _sum(n_rows: int, first: Tensor, *others: tuple[Rows, Tensor]) -> Tensor:
    """Gradients of all rows: those of the first rows in order, and others by place."""
    total = first.new_zeros(n_rows, *first.shape[1:])
    total[: len(first)] = first
    for places, gradient in others:
        total.index_add_(0, torch.from_numpy(places).to(first.device), gradient)
    return total


def _unique(n_items: int, *parts: Rows, leave_out: Rows | None = None) -> Rows:
    """The distinct rows of all parts, ascending: marked in a table, which beats sorting unless the table is large."""
    if n_items > _LARGE:
        rows = np.unique(np.concatenate(parts))
        return rows if leave_out is None else np.setdiff1d(rows, leave_out, assume_unique=True)
    there = np.zeros(n_items, np.bool_)
    for part in parts:
        there[part] = True
    if leave_out is not None:
        there[leave_out] = False
    return np.flatnonzero(there)


def _places(n_items: int, rows: Rows, wanted: Rows) -> Rows:
    """Where each row that is wanted stands among `rows`, each of these once; -1 for one that does not; int64."""
    if n_items > _LARGE:
        order = np.argsort(rows)
        nearest = order[np.minimum(np.searchsorted(rows, wanted, sorter=order), len(rows) - 1)]
        return np.where(rows[nearest] == wanted, nearest, -1)
    places = np.full(n_items, -1, np.int64)
    places[rows] = np.arange(len(rows))
    found: Rows = places[wanted]
    return found


def _currents(lessons: Lessons, repeats: bool) -> list[int]:
    """The item that is no negative of each target; -1 where every item is."""
    return [-1] * lessons.n_targets if repeats else lessons.currents()[: lessons.n_targets]


def _columns(
    n_items: int, candidates: Rows, targets: Rows, currents: Sequence[int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Column of each target, and which candidates are no negatives of it: itself and the item the user is on."""
    positive, kept = _places(n_items, candidates, targets), np.array(currents, np.int64)
    current = np.where(kept >= 0, _places(n_items, candidates, np.maximum(kept, 0)), -1)
    left_out = np.zeros((len(targets), len(candidates)), np.bool_)
    lines = np.arange(len(targets))
    left_out[lines, positive] = True
    left_out[lines[current >= 0], current[current >= 0]] = True
    return torch.from_numpy(positive).to(device), torch.from_numpy(left_out).to(device)
