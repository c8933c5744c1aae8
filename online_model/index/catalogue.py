"""An index over the live item vectors: it keeps no copy of them, only in which cell each row stands."""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from online_model.candidates.queries import Floats, Ints
from online_model.config import ModelConfig
from online_model.index.cells import Cells
from online_model.index.quantiser import Quantiser, train
from online_model.table import ItemTable

# Rows that are scored for one state: this times the root of the catalogue, 2% of a million.
_SCANNED = 20.0
# New cells are made once the catalogue has grown by this much, or its rows have moved so often on average.
_GROWN, _MOVED = 1.5, 8
# Smaller catalogues are put into new cells at once, within milliseconds.
_ASIDE_FROM = 50_000


class CatalogueIndex:
    """The best rows for a state out of few cells, with exact scores of the live vectors.

    What it finds depends on the weights and on the quantiser alone, whatever way led there: a copy that is brought to
    the same weights finds the same. One thread owns it.

    Attributes:
        quantiser: The cells; None as long as the whole catalogue is scored.
        n_moved: Rows that steps have moved since the cells were made, as often as they were.
    """

    def __init__(self, config: ModelConfig, table: ItemTable) -> None:
        self._from = config.index_from if table.device.type == "cpu" else 0
        self._seed = config.seed
        self._table = table
        self.quantiser: Quantiser | None = None
        self.n_moved = 0
        # Which rows stand where, and by which quantiser: the latest one, unless its cells are still being filled.
        self._filled: tuple[Quantiser, Cells] | None = None
        self._filling: Future[tuple[Quantiser, Cells]] | None = None

    @property
    def active(self) -> bool:
        """Whether it answers: the catalogue is large enough, and a learner has made cells for it."""
        return self.quantiser is not None and 0 < self._from <= self._table.n_rows

    def learned(self, n_moved: int, version: int) -> None:
        """Take notice of a learner's step: now and then new cells are made, at once.

        Args:
            n_moved: Rows that the step moved.
            version: Mini-batches learned so far.
        """
        n_items = self._table.n_rows
        if not 0 < self._from <= n_items:
            return
        self.n_moved += n_moved
        made = self.quantiser
        if made is None or n_items >= _GROWN * made.n_items or self.n_moved >= _MOVED * n_items:
            self.adopt(train(self._table.vectors, self._table.biases, version=version, seed=self._seed))
            self.n_moved = 0

    def adopt(self, quantiser: Quantiser | None, *, aside: bool = False) -> None:
        """Use other cells from now on.

        Args:
            quantiser: These; None for none.
            aside: Fill them in another thread, and answer from the former ones until that is done.
        """
        self.quantiser = quantiser
        if not (aside and self._filled is not None and self._table.n_rows >= _ASIDE_FROM and quantiser is not None):
            self._filled = self._filling = None
            return
        # Rows that move meanwhile may be read half written: they are noted as moved, and looked at again.
        self._catch_up()
        vectors, biases = self._table.vectors, self._table.biases
        self._table.moved_for("filling")
        executor = ThreadPoolExecutor(1, "index")
        self._filling = executor.submit(lambda: (quantiser, _filled(quantiser, vectors, biases)))
        executor.shutdown(wait=False)

    def prepare(self) -> None:
        """Bring the cells up to date, so that the next answer need not wait for that."""
        if self.active:
            self._catch_up()

    @torch.no_grad()
    def search(self, hidden: Tensor, n: int) -> tuple[Ints, Floats]:
        """Return the best rows for each state, best first, and their scores.

        Args:
            hidden: float32 [batch, hidden] or [batch, n_vectors, hidden]; see `scoring.pool`.
            n: How many; all where there are fewer.

        Returns:
            int32 and float32, [batch, min(n, n_items)].
        """
        quantiser, cells = self._catch_up()
        states = hidden[:, None] if hidden.dim() == 2 else hidden
        budget = int(_SCANNED * len(cells) ** 0.5)
        vectors, biases = self._table.vectors.numpy(), self._table.biases.numpy()
        return cells.scan(states.contiguous().numpy(), quantiser.order(hidden), vectors, biases, budget, n)

    def _catch_up(self) -> tuple[Quantiser, Cells]:
        table = self._table
        if self._filled is None:
            if self.quantiser is None:
                raise RuntimeError("an index without cells was asked")
            table.moved_for("index")
            self._filled = self.quantiser, _filled(self.quantiser, table.vectors, table.biases)
        elif self._filling is not None and self._filling.done():
            self._filled, self._filling = self._filling.result(), None
            _move(self._filled, table, table.moved_for("filling", go_on=False))
        _move(self._filled, table, table.moved_for("index"))
        return self._filled


def _filled(quantiser: Quantiser, vectors: Tensor, biases: Tensor) -> Cells:
    return Cells(quantiser.cells(vectors, biases), quantiser.n_cells)


def _move(filled: tuple[Quantiser, Cells], table: ItemTable, rows: Tensor) -> None:
    if len(rows):
        quantiser, cells = filled
        moved: np.ndarray[tuple[int], np.dtype[np.int64]] = rows.numpy()
        cells.move(moved, quantiser.cells(*table.copies(rows)))
