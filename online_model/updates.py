"""What a learner tells its serving copies: a consistent snapshot of all that changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from online_model.candidates.folds import Fold, from_tensors, to_tensors
from online_model.config import ModelConfig
from online_model.index.quantiser import Quantiser
from online_model.protocol import State
from online_model.tensor_bytes import decode, encode, pack_strings, unpack_strings
from online_model.two_stage import TwoStageModel
from online_model.vocabulary import Rows

_ENCODER = "encoder."
_RANKER = "ranker."
_EVIDENCE = "evidence."
_FOLDS = "folds."
_INDEX = "index."
_FACTS = ("lineage", "version", "base", "n_items", "config", "counts", "n_folds", "ranker", "evidence")


@dataclass(frozen=True, slots=True)
class Update:
    """Rows and weights as they stood after one mini-batch; nothing in it is shared with the learner.

    Values are absolute, but for the counts behind the candidates: of these it tells everything, or each step since
    `base`, numbered. A copy at any version from `base` to `version` becomes the learner's equal by applying it.

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
        n_folds: Steps that the counts behind the candidates have taken.
        ranker: All weights of the ranker; None where there is none.
        folds: The latest of those steps, in order; None where everything is told, or nothing is counted.
        evidence: The counts behind the candidates, where everything is told.
        quantiser: The cells of the index, where everything is told or they are newer than `base`; None where there are
            none, or none that are newer.
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
    n_folds: int = 0
    ranker: State | None = None
    folds: Sequence[Fold] | None = None
    evidence: State | None = None
    quantiser: Quantiser | None = None

    @property
    def full(self) -> bool:
        """Whether it tells everything."""
        return self.base is None

    @classmethod
    def of(
        cls,
        two_stage: TwoStageModel,
        rows: Rows,
        folds: Sequence[Fold] | None,
        *,
        lineage: str,
        version: int,
        base: int | None,
        n_folds: int,
    ) -> "Update":
        """Take a snapshot of some rows and of all that is not in rows; without `folds`, of all that is counted."""
        model, ranks = two_stage.recurrent, two_stage.ranks
        made = model.catalogue_index.quantiser
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
            n_folds=n_folds,
            ranker=two_stage.ranker.serving_state() if ranks else None,
            folds=list(folds) if ranks and folds is not None else None,
            evidence=two_stage.evidence.state(len(model.index)) if ranks and folds is None else None,
            quantiser=made if made is not None and (base is None or made.version > base) else None,
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
        ranker, evidence = self.ranker or State(), self.evidence or State()
        tensors |= {_RANKER + name: weight for name, weight in ranker.tensors.items()}
        tensors |= {_EVIDENCE + name: tensor for name, tensor in evidence.tensors.items()}
        index = {} if self.quantiser is None else self.quantiser.tensors()
        tensors |= {_INDEX + name: tensor for name, tensor in index.items()}
        tensors |= {_FOLDS + name: tensor for name, tensor in to_tensors(self.folds or ()).items()}
        values = (
            self.lineage,
            self.version,
            self.base,
            self.n_items,
            self.config.to_mapping(),
            dict(self.counts_facts),
            self.n_folds,
            None if self.ranker is None else ranker.metadata,
            None if self.evidence is None else evidence.metadata,
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
                encoder=_part(tensors, _ENCODER),
                n_folds=int(str(facts["n_folds"])),
                ranker=None if facts["ranker"] is None else State(_part(tensors, _RANKER), _object(facts["ranker"])),
                folds=None if facts["base"] is None else from_tensors(_part(tensors, _FOLDS)),
                evidence=None
                if facts["evidence"] is None
                else State(_part(tensors, _EVIDENCE), _object(facts["evidence"])),
                quantiser=Quantiser.from_tensors(_part(tensors, _INDEX)),
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
        ranker = () if self.ranker is None else self.ranker.tensors.values()
        index = () if self.quantiser is None else self.quantiser.tensors().values()
        parts = (self.vectors, self.biases, self.counts, *self.encoder.values(), *ranker, *index)
        return all(bool(part.sum().isfinite()) for part in parts)

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


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object in a model update, not {type(value).__name__}")
    return value
