"""Lessons in filling in: items of a sequence hidden, to be told from those before and after."""

import torch
from torch import Generator

from online_model.lessons import Lessons


def with_holes(lessons: Lessons, share: float, generator: Generator) -> tuple[Lessons, list[int]]:
    """Add lessons in which an item inside a sequence is the target.

    A target and what stood before it make one sequence; each of its items but the target itself is hidden with the
    chance `share`, in a lesson of its own. What people turned away from is never shown.

    Args:
        lessons: What is learned anyway; left as it is.
        share: Chance of an item to be hidden; 0 leaves everything as it is and draws nothing.
        generator: Draws what is hidden.

    Returns:
        The lessons, targets still first, and which step of each sequence is hidden: the one after the last where the
        lesson is what comes next.
    """
    holes = [len(sequence) for sequence in lessons.sequences]
    if not share:
        return lessons, holes
    n_targets = lessons.n_targets
    added, added_holes = Lessons(), []
    chances = torch.rand(sum(holes[:n_targets]), generator=generator).tolist()
    for sequence, target, weight in zip(
        lessons.sequences[:n_targets], lessons.items[:n_targets], lessons.weights[:n_targets], strict=True
    ):
        for step, item in enumerate(sequence):
            if chances.pop() < share:
                added.sequences.append([*sequence, target])
                added.items.append(item)
                added.weights.append(weight)
                added_holes.append(step)
    whole = Lessons(
        sequences=lessons.sequences[:n_targets] + added.sequences + lessons.sequences[n_targets:],
        items=lessons.items[:n_targets] + added.items + lessons.items[n_targets:],
        weights=lessons.weights[:n_targets] + added.weights + lessons.weights[n_targets:],
        n_targets=n_targets + len(added.items),
    )
    return whole, holes[:n_targets] + added_holes + holes[n_targets:]
