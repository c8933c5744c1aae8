"""What a learner tells its serving copies: a consistent snapshot of all that changed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from online_model.config import ModelConfig
from online_model.model import RecurrentModel
from online_model.protocol import State
from online_model.tensor_bytes import decode, encode, pack_strings, unpack_strings
from online_model.vocabulary import Rows

_ENCODER = "encoder."
_FACTS = ("lineage", "version", "base", "n_items", "config", "counts")


@dataclass(frozen=True, slots=True)
class Update:
    """Rows and weights as they stood after one mini-batch; nothing in it is shared with the learner.

    Values are absolute: a copy at any version from `base` to `version` becomes the learner's equal by applying it.

    Attributes:
        lineage: The learner's run.
        version: Mini-batches that the learner had learned.
        base: Version since which the rows are told; None when everything is told.
        n_items: Live items of the learner.
        config: The model's settings.
        counts_facts: Clock and base of the counts.
        rows: int64 [n].
        ids: Tenant of each row: a row may have changed hands.
        vectors: float32 [n, hidden].
        biases: float32 [n].
        counts: What is popular, float64 [n].
        encoder: All weights of the encoder.
    """

    lineage: str
    version: int
    base: int | None
    n_items: int
    config: ModelConfig
    counts_facts: Mapping[str, int]
    rows: Tensor
    ids: list[str]
    vectors: Tensor
    biases: Tensor
    counts: Tensor
    encoder: Mapping[str, Tensor]

    @property
    def full(self) -> bool:
        """Whether it tells everything."""
        return self.base is None

    @classmethod
    def of(cls, model: RecurrentModel, rows: Rows, *, lineage: str, version: int, base: int | None) -> "Update":
        """Take a snapshot of some rows and of all that is not in rows."""
        chosen = torch.from_numpy(rows)
        on_device = chosen.to(model.device)
        return cls(
            lineage=lineage,
            version=version,
            base=base,
            n_items=len(model.index),
            config=model.config,
            counts_facts=model.counts.facts(),
            rows=chosen,
            ids=[model.index.ids[row] for row in rows.tolist()],
            vectors=model.table.vectors[on_device].cpu(),
            biases=model.table.biases[on_device].cpu(),
            counts=torch.from_numpy(model.counts.weights(len(model.index))[rows]),
            encoder={name: weight.detach().to("cpu", copy=True) for name, weight in model.encoder.weights().items()},
        )

    def state(self) -> State:
        """Return it as plain tensors and JSON values; tensors are shared with it."""
        ids, ends = pack_strings(self.ids)
        tensors = {
            "rows": self.rows,
            "ids": ids,
            "id_ends": ends,
            "vectors": self.vectors,
            "biases": self.biases,
            "counts": self.counts,
        }
        tensors |= {_ENCODER + name: weight for name, weight in self.encoder.items()}
        values = (
            self.lineage,
            self.version,
            self.base,
            self.n_items,
            self.config.to_mapping(),
            dict(self.counts_facts),
        )
        return State(tensors, dict(zip(_FACTS, values, strict=True)))

    @classmethod
    def from_state(cls, state: State) -> "Update":
        """Return the update that `state` was taken from.

        Raises:
            ValueError: A part is missing, or the parts do not fit together.
        """
        tensors, facts = state.tensors, state.metadata
        try:
            update = cls(
                lineage=str(facts["lineage"]),
                version=int(str(facts["version"])),
                base=None if facts["base"] is None else int(str(facts["base"])),
                n_items=int(str(facts["n_items"])),
                config=ModelConfig.from_mapping(_object(facts["config"])),
                counts_facts={name: int(str(value)) for name, value in _object(facts["counts"]).items()},
                rows=tensors["rows"],
                ids=unpack_strings(tensors["ids"], tensors["id_ends"]),
                vectors=tensors["vectors"],
                biases=tensors["biases"],
                counts=tensors["counts"],
                encoder={n.removeprefix(_ENCODER): t for n, t in tensors.items() if n.startswith(_ENCODER)},
            )
        except KeyError as error:
            raise ValueError(f"a model update lacks {error}") from error
        update._check_sizes()
        return update

    def encode(self) -> bytes:
        """Return it as safetensors bytes."""
        state = self.state()
        return encode(state.tensors, state.metadata)

    @classmethod
    def decode(cls, data: bytes) -> "Update":
        """Return the update in `data`.

        Raises:
            ValueError: The bytes are torn, or not an update.
        """
        return cls.from_state(State(*decode(data)))

    def all_finite(self) -> bool:
        """Whether every number in it is finite."""
        # An infinity or NaN makes the sum one of them; one pass without a tensor of truths.
        return all(
            bool(part.sum().isfinite()) for part in (self.vectors, self.biases, self.counts, *self.encoder.values())
        )

    def _check_sizes(self) -> None:
        n, hidden = len(self.rows), self.config.hidden
        shapes = {"ids": len(self.ids), "biases": len(self.biases), "counts": len(self.counts)}
        wrong = [f"{name} {size}" for name, size in shapes.items() if size != n]
        if wrong or self.vectors.shape != (n, hidden):
            raise ValueError(
                f"an update of {n} rows and hidden = {hidden} "
                f"holds vectors {list(self.vectors.shape)} {' '.join(wrong)}"
            )
        if n and not 0 <= int(np.asarray(self.rows).min()) <= int(np.asarray(self.rows).max()) < self.n_items:
            raise ValueError(f"an update of {self.n_items} items names rows outside of them")


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object in a model update, not {type(value).__name__}")
    return value
