"""What a new item knows on its first day: half of it is where the user came from."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from online_model.config import ModelConfig
from online_model.table import ItemTable


def first_vectors(
    config: ModelConfig, table: ItemTable, births: Sequence[tuple[int, int]], generator: Generator
) -> Tensor:
    """Return the first vectors of new items: a share of the parent's, the rest random.

    Args:
        config: Says how large random vectors are, and the parent's share.
        table: Holds the parents' vectors, unless they are born in the same batch.
        births: Row of each new item and of the item before it in its sequence, -1 for none, in order of birth.
        generator: Draws the random vectors.

    Returns:
        float32 [n_births, hidden].
    """
    if not births:
        return torch.empty(0, config.hidden, device=table.device)
    drawn = torch.rand(len(births), config.hidden, generator=generator).mul_(2).sub_(1).mul_(config.init)
    vectors = drawn.to(table.device)
    rows, parents = np.array(births, np.int64).T
    place = {row: index for index, row in enumerate(rows.tolist())}
    settled = [index for index, parent in enumerate(parents.tolist()) if parent >= 0 and parent not in place]
    if settled:
        chosen = torch.tensor(settled, device=table.device)
        inherited = table.vectors[torch.from_numpy(parents[settled]).to(table.device)]
        vectors[chosen] = vectors[chosen].lerp(inherited, config.birth)
    # Children of a batch's own newborns follow in order: their parents come before them.
    for index, parent in enumerate(parents.tolist()):
        if parent in place and place[parent] != index:
            vectors[index] = vectors[index].lerp(vectors[place[parent]], config.birth)
    return vectors
