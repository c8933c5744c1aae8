"""What an item should be compared with when the catalogue is large: anything at all, or what people look at of late.

The stream of `endless`, with a catalogue that is all there from the beginning and items of very unequal popularity.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from online_model.config import ModelConfig
from online_model.evaluation.metrics import hits_of, reciprocals_of
from online_model.learners import build
from online_model.protocol import Context, Example, Request
from stream.benchmarks.endless import Walks

SHARES = (0.0, 0.25, 0.5)
# To rank a target among a million items costs as much as to learn many mini-batches.
SCORED_EVERY = 20
_ADMITTED_AT_ONCE = 4_096
# Popularity of the item of rank r is r to the minus this: about as steep as views of a shop are.
SLOPE = 0.8


@dataclass(frozen=True, slots=True)
class NegativesResult:
    """How well the second half of the stream was predicted.

    Attributes:
        n_items: Size of the catalogue.
        share: Of the negatives that were drawn from the latest targets.
        scored: Events that were scored.
        recall: Share of them whose target was among the first 20.
        mrr: Mean of 1 / rank, 0 beyond 20.
        learned_per_second: Events learned in a second of processor time.
    """

    n_items: int
    share: float
    scored: int
    recall: float
    mrr: float
    learned_per_second: float


def run(
    config: ModelConfig,
    n_items: int,
    n_events: int,
    *,
    shares: Sequence[float] = SHARES,
    seed: int = 1,
    on_events: Callable[[int], None] = lambda n_events: None,
) -> list[NegativesResult]:
    """Put one stream through a learner for each share.

    Args:
        config: Of the learners, but for the share and the room for items.
        n_items: Size of the catalogue.
        n_events: Length of the stream.
        shares: Of negatives that are drawn from the latest targets.
        seed: Of the stream.
        on_events: Told how many events have gone by, over all learners.
    """
    found: list[NegativesResult] = []
    for share in shares:
        done = len(found) * n_events
        settings = replace(config, recent_negatives=share, max_items=max(config.max_items, 2 * n_items))
        found.append(_run(settings, n_items, n_events, seed, done, on_events))
    return found


def _run(
    config: ModelConfig, n_items: int, n_events: int, seed: int, done: int, on_events: Callable[[int], None]
) -> NegativesResult:
    walks = Walks(n_items, config.batch_size, seed, slope=SLOPE)
    learner = build("gru", config)
    for start in range(0, n_items, _ADMITTED_AT_ONCE):
        end = min(n_items, start + _ADMITTED_AT_ONCE)
        learner.learn([Example(Context(), str(item)) for item in range(start, end)])
    ranks: list[int] = []
    seconds, n_batches = 0.0, n_events // config.batch_size
    for number, batch in enumerate(islice(walks, n_batches)):
        if 2 * number >= n_batches and number % SCORED_EVERY == 0:
            known = [example for example in batch if example.context.history]
            requests = [Request(example.context) for example in known]
            ranks += learner.rank(requests, [example.item or "" for example in known])
        begin = time.process_time()
        learner.learn(batch)
        seconds += time.process_time() - begin
        on_events(done + (number + 1) * config.batch_size)
    placed = np.array(ranks, np.int64)
    return NegativesResult(
        n_items,
        config.recent_negatives,
        len(ranks),
        float(hits_of(placed).mean()),
        float(reciprocals_of(placed).mean()),
        n_batches * config.batch_size / max(seconds, 1e-9),
    )
