"""What an event costs when the catalogue is large: learned and answered, with all of it scored and with the index.

The stream of `negatives`: items of very unequal popularity that are all there from the beginning. In process.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from resource import RUSAGE_SELF, getrusage
from typing import Literal

import numpy as np

from online_model.config import ModelConfig
from online_model.learner import OnlineLearner
from online_model.protocol import Context, Example, Ranked, Request, State
from stream.benchmarks.endless import Walks
from stream.benchmarks.negatives import SLOPE

SIZES = (1_000, 10_000, 100_000, 1_000_000)
LISTED = 20
_ADMITTED_AT_ONCE = 4_096
# Mini-batches whose next items are looked for; of how many it is timed; how many of these are asked for one by one.
_ASKED, _TIMED_LISTS, _ALONE = 32, 8, 16
# Learned before anything is timed: what is compiled is loaded, and what grows has grown.
_WARM = 4
# Mini-batches that are learned and timed where all of the catalogue is scored.
_TIMED = 8

Way = Literal["exact", "index"]


@dataclass(frozen=True, slots=True)
class CatalogueResult:
    """What one way of scoring costs at one size.

    Attributes:
        n_items: Size of the catalogue.
        way: All of it scored, or by the index.
        recommend_1_ms: Processor time of an answer that is asked for alone, median.
        recommend_64_ms: The same for each of a mini-batch that is asked for at once.
        learn_ms: Processor time of learning, an event, with making new cells.
        start_seconds: Time of the first answer after a start from a saved state: the cells are filled by then.
        shared: Share of the exact lists' items that stand in these lists too; 1 for the exact ones.
        recall: Share of next items, unknown to the learner, that stand in the list of 20.
        memory_mib: The process's greatest so far.
    """

    n_items: int
    way: Way
    recommend_1_ms: float
    recommend_64_ms: float
    learn_ms: float
    start_seconds: float
    shared: float
    recall: float
    memory_mib: float


def run(
    config: ModelConfig,
    sizes: Sequence[int] = SIZES,
    n_events: int = 100_000,
    *,
    seed: int = 1,
    on_events: Callable[[int], None] = lambda n_events: None,
) -> list[CatalogueResult]:
    """Measure each size: one stream is learned with the index, then both ways answer from the same weights.

    Args:
        config: Of the learners, but for the room for items and the size from which there is an index.
        sizes: Of the catalogue.
        n_events: Learned before the measurement, at each size.
        seed: Of the stream.
        on_events: Told how many events have gone by, over all sizes.
    """
    found: list[CatalogueResult] = []
    for place, n_items in enumerate(sizes):
        start = place * n_events
        settings = replace(config, max_items=max(config.max_items, 2 * n_items))
        walks = Walks(n_items, config.batch_size, seed, slope=SLOPE)
        state = _taught(replace(settings, index_from=1), n_items, iter(walks), n_events, lambda n: on_events(start + n))  # noqa: B023
        asked = list(islice(walks, _ASKED))
        lessons = list(islice(walks, _WARM + _TIMED))
        exact, lists = _measured(replace(settings, index_from=0), state, "exact", asked, lessons, None)
        indexed, _ = _measured(replace(settings, index_from=1), state, "index", asked, lessons, lists)
        found += [exact, indexed]
    return found


def _taught(
    config: ModelConfig, n_items: int, batches: Iterator[list[Example]], n_events: int, told: Callable[[int], None]
) -> State:
    learner = OnlineLearner(config)
    for start in range(0, n_items, _ADMITTED_AT_ONCE):
        end = min(n_items, start + _ADMITTED_AT_ONCE)
        learner.admit([Example(Context(), str(item)) for item in range(start, end)])
    for number, batch in enumerate(islice(batches, n_events // config.batch_size), 1):
        learner.learn(batch)
        told(number * config.batch_size)
    return learner.state()


def _measured(
    config: ModelConfig,
    state: State,
    way: Way,
    events: Sequence[Sequence[Example]],
    lessons: Sequence[list[Example]],
    exact: Sequence[Ranked] | None,
) -> tuple[CatalogueResult, list[Ranked]]:
    learner = OnlineLearner(config)
    learner.load_state(state)
    asked = [[_request(event) for event in batch] for batch in events]
    first = _seconds(lambda: learner.recommend(asked[0][:1], LISTED))
    lists = [ranked for batch in asked for ranked in learner.recommend(batch, LISTED)]
    together = [_seconds(lambda batch=batch: learner.recommend(batch, LISTED)) for batch in asked[:_TIMED_LISTS]]  # type: ignore[misc]
    alone = [_seconds(lambda one=one: learner.recommend([one], LISTED)) for one in asked[0][:_ALONE]]  # type: ignore[misc]
    for batch in lessons[:_WARM]:
        learner.learn(batch)
    learning = [_seconds(lambda batch=batch: learner.learn(batch)) for batch in lessons[_WARM:]]  # type: ignore[misc]
    result = CatalogueResult(
        learner.n_items,
        way,
        1_000 * float(np.median(alone)),
        1_000 * float(np.median(together)) / config.batch_size,
        1_000 * float(np.mean(learning)) / config.batch_size,
        first,
        1.0 if exact is None else _shared(lists, exact),
        _recall(lists, [event for batch in events for event in batch]),
        getrusage(RUSAGE_SELF).ru_maxrss / 1024,
    )
    return result, lists


def _request(event: Example) -> Request:
    return Request(event.context, frozenset(visit[0] for visit in event.context.history[-1:]))


def _recall(lists: Sequence[Ranked], events: Sequence[Example]) -> float:
    found = [event.item in ranked.items for ranked, event in zip(lists, events, strict=True) if event.item is not None]
    return float(np.mean(found))


def _shared(lists: Sequence[Ranked], exact: Sequence[Ranked]) -> float:
    shares = [len({*one.items} & {*other.items}) / len(other.items) for one, other in zip(lists, exact, strict=True)]
    return float(np.mean(shares))


def _seconds(act: Callable[[], object]) -> float:
    begin = time.process_time()
    act()
    return time.process_time() - begin
