"""Tensors and JSON facts as one block of safetensors bytes, and strings as tensors: nothing is ever pickled."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

_FACTS = "facts"


def encode(tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> bytes:
    """Return the tensors, moved to the CPU, and the JSON values as safetensors bytes."""
    # strict JSON: NaN would be readable by Python alone
    text = json.dumps(facts, allow_nan=False, separators=(",", ":"))
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, {_FACTS: text})


def decode(data: bytes) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Return what `encode` was given.

    Raises:
        ValueError: The bytes are torn or not such a block.
    """
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        facts = json.loads(header["__metadata__"][_FACTS])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a whole safetensors block of {len(data)} bytes: {error}") from error
    if not isinstance(facts, dict):
        raise ValueError(f"the facts of a safetensors block must be an object, not {type(facts).__name__}")
    return tensors, facts


def pack_strings(strings: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the UTF-8 bytes of all strings, uint8, and where each one ends, int64."""
    encoded = [text.encode() for text in strings]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return torch.frombuffer(bytearray(b"".join(encoded) or b"\0"), dtype=torch.uint8), torch.from_numpy(ends)


def unpack_strings(data: Tensor, ends: Tensor) -> list[str]:
    """Return the strings that `pack_strings` was given.

    >>> unpack_strings(*pack_strings(["shoe", "", "größe"]))
    ['shoe', '', 'größe']
    """
    raw = data.cpu().numpy().tobytes()
    return [raw[start:end].decode() for start, end in pairwise([0, *ends.tolist()])]
