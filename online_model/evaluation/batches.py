"""Mini-batches of a stream, as everything that is put to the test meets them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from online_model.evaluation.sequences import Step
from online_model.lessons import TARGETS
from online_model.protocol import Example, Request


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that are answered with the same weights, and then learned.

    Attributes:
        start: Place of the first of them in the stream, from 0.
        steps: The events.
        examples: What each of them teaches.
        scored: Which of them are scored, by their place in the batch.
        requests: What a list for each scored event would be made from.
        targets: The item of each scored event.
        unseen: Those, by their place in the batch, whose item the stream had not brought before.
    """

    start: int
    steps: list[Step]
    examples: list[Example]
    scored: list[int]
    requests: list[Request]
    targets: list[str]
    unseen: frozenset[int]

    def unseen_with(self, admitted: Iterable[str]) -> frozenset[int]:
        """Return `unseen`, and the first event of each item that had left a learner's vocabulary and comes back."""
        back = set(admitted)
        if not back:
            return self.unseen
        places = set(self.unseen)
        for place, example in enumerate(self.examples):
            if example.role in TARGETS and example.item in back:
                places.add(place)
                back.discard(example.item)
        return frozenset(places)


class Batches:
    """Cuts a stream into mini-batches of one size; the last may be smaller.

    Args:
        size: Events in a mini-batch.
        repeats: Score events that repeat the item just before them, and let lists hold the item that a user is on.
    """

    def __init__(self, size: int, *, repeats: bool = False) -> None:
        self._size = size
        self._repeats = repeats
        self._seen: set[str] = set()

    def cut(self, steps: Iterable[Step]) -> Iterator[Batch]:
        """Yield the mini-batches of a stream, in order."""
        iterator, start = iter(steps), 0
        while taken := list(islice(iterator, self._size)):
            yield self._batch(start, taken)
            start += len(taken)

    def unscored(self, step: Step) -> str | None:
        """Return why an event is not scored; None when it is."""
        return None if self._repeats and step.unscored == "repeat" else step.unscored

    def _batch(self, start: int, steps: list[Step]) -> Batch:
        examples = [step.example for step in steps]
        scored = [place for place, step in enumerate(steps) if self.unscored(step) is None]
        requests = [self._request(examples[place]) for place in scored]
        targets = [examples[place].item or "" for place in scored]
        return Batch(start, steps, examples, scored, requests, targets, self._unseen(examples))

    def _request(self, example: Example) -> Request:
        exclude = frozenset[str]() if self._repeats else frozenset((example.context.history[-1][0],))
        return Request(example.context, exclude)

    def _unseen(self, examples: list[Example]) -> frozenset[int]:
        unseen = set()
        for place, example in enumerate(examples):
            if example.role in TARGETS and example.item is not None and example.item not in self._seen:
                unseen.add(place)
                self._seen.add(example.item)
        return frozenset(unseen)
