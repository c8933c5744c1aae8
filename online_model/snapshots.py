"""A learner's whole inside as one `State`, and back."""

import numpy as np
import torch
from torch import Tensor

from online_model.index.quantiser import Quantiser
from online_model.model import RecurrentModel
from online_model.optimizer import DenseAdagrad, RowAdagrad
from online_model.protocol import State
from online_model.states import check_kind, missing_parts_named
from online_model.two_stage import TwoStageModel
from online_model.vocabulary import Vocabulary

_VOCABULARY = "vocabulary."
_ENCODER = "encoder."
_SQUARES = "encoder_squares."
_RANKER = "ranker."
_EVIDENCE = "evidence."
_INDEX = "index."


def dump(two_stage: TwoStageModel, vocabulary: Vocabulary, rows: RowAdagrad, dense: DenseAdagrad) -> State:
    """Return copies of weights, counts, ids and optimizer."""
    model, n_items = two_stage.recurrent, len(vocabulary)
    tensors = {
        "vectors": _copy(model.table.vectors),
        "biases": _copy(model.table.biases),
        "vector_squares": _copy(rows.vectors[:n_items]),
        "bias_squares": _copy(rows.biases[:n_items]),
        "counts": torch.from_numpy(model.counts.weights(n_items).copy()),
    }
    tensors |= {_ENCODER + name: _copy(weight) for name, weight in model.encoder.weights().items()}
    tensors |= {_SQUARES + name: _copy(squares) for name, squares in dense.squares.items()}
    parts = {_VOCABULARY: vocabulary.state()}
    if two_stage.ranks:
        parts |= {_RANKER: two_stage.ranker.state(), _EVIDENCE: two_stage.evidence.state(n_items)}
    for prefix, part in parts.items():
        tensors |= {prefix + name: tensor for name, tensor in part.tensors.items()}
    facts = {prefix.removesuffix("."): part.metadata for prefix, part in parts.items()}
    config, index = model.config, model.catalogue_index
    if index.quantiser is not None:
        # Copies, though nobody writes them: a state shares nothing.
        tensors |= {_INDEX + name: _copy(tensor) for name, tensor in index.quantiser.tensors().items()}
        facts["index"] = {"n_moved": index.n_moved}
    return State(tensors, {"counts": model.counts.facts(), "hidden": config.hidden, "encoder": config.encoder, **facts})


def restore(
    state: State, kind: str, two_stage: TwoStageModel, vocabulary: Vocabulary, rows: RowAdagrad, dense: DenseAdagrad
) -> None:
    """Fill parts that are fresh from a state.

    Raises:
        ValueError: The state is that of another kind or size of model, or lacks a part.
    """
    config = two_stage.config
    check_kind(state, kind, config.hidden)
    if state.metadata.get("encoder") != config.encoder:
        raise ValueError(
            f"the saved model has encoder = {state.metadata.get('encoder')}, the settings say encoder = "
            f"{config.encoder}: set it back, or start with an empty checkpoint folder"
        )
    with missing_parts_named():
        _restore(state, two_stage.recurrent, vocabulary, rows, dense)
        if two_stage.ranks:
            two_stage.ranker.load_state(_state(state, _RANKER))
            two_stage.evidence.load_state(_state(state, _EVIDENCE))


def _restore(
    state: State, model: RecurrentModel, vocabulary: Vocabulary, rows: RowAdagrad, dense: DenseAdagrad
) -> None:
    tensors, facts = state.tensors, state.metadata
    ids, counts = facts["vocabulary"], facts["counts"]
    if not isinstance(ids, dict) or not isinstance(counts, dict):
        raise ValueError("the saved model's facts about vocabulary and counts must be objects")
    vocabulary.load_state(State(_part(tensors, _VOCABULARY), ids))
    model.replace_index(vocabulary.index)
    every = torch.arange(len(vocabulary), device=model.device)
    model.table.write(every, tensors["vectors"].to(model.device), tensors["biases"].to(model.device))
    rows.reserve(len(vocabulary))
    rows.vectors[every] = tensors["vector_squares"].to(model.device)
    rows.biases[every] = tensors["bias_squares"].to(model.device)
    model.counts.write(np.arange(len(vocabulary)), tensors["counts"].numpy(), counts)
    load_encoder(model, _part(tensors, _ENCODER))
    index = facts.get("index")
    if isinstance(index, dict):
        model.catalogue_index.adopt(Quantiser.from_tensors(_part(tensors, _INDEX)))
        model.catalogue_index.n_moved = int(str(index["n_moved"]))
    for name, squares in dense.squares.items():
        squares.copy_(tensors[_SQUARES + name])


@torch.no_grad()
def load_encoder(model: RecurrentModel, weights: dict[str, Tensor]) -> None:
    """Copy weights into the model's encoder."""
    for name, weight in model.encoder.weights().items():
        weight.copy_(weights[name])


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _copy(tensor: Tensor) -> Tensor:
    # .to("cpu") of a tensor that is there already would be the very tensor
    return tensor.detach().to("cpu", copy=True)


def _state(state: State, prefix: str) -> State:
    facts = state.metadata[prefix.removesuffix(".")]
    if not isinstance(facts, dict):
        raise ValueError(f"the saved model's facts about its {prefix.removesuffix('.')} must be an object")
    return State(_part(state.tensors, prefix), facts)
