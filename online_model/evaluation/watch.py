"""Notes on every scored event and every list of a pass, for figures that ranks alone do not give."""

from collections.abc import Mapping, Sequence

from online_model.evaluation.batches import Batch
from online_model.evaluation.beyond import Head, ListLog
from online_model.evaluation.contestant import Answers
from online_model.evaluation.segments import SegmentLog
from online_model.evaluation.sittings import SittingLog


class Watch:
    """Watches models that answer the same mini-batches.

    Args:
        names: Of the models.
        n_events: Events in the stream.
        lists: Whether their lists are watched, or only who and what the events are.

    Attributes:
        segments: What the scored events were.
        sittings: What lists met of the sittings' further items.
        lists: What each model's lists held.
        n_events: Events in the stream.
    """

    def __init__(self, names: Sequence[str], n_events: int, *, lists: bool = True) -> None:
        self.n_events = n_events
        self.segments = SegmentLog()
        self.sittings = SittingLog(names if lists else ())
        head = Head(self.segments)
        self.lists = {name: ListLog(self.segments, head, n_events) for name in names} if lists else {}

    def observe(self, batch: Batch) -> None:
        """Note a mini-batch's events; before `note`."""
        self.segments.observe(batch)

    def note(self, batch: Batch, answers: Mapping[str, Answers]) -> None:
        """Note what each model answered to a mini-batch."""
        lists = {name: answers[name].lists or [] for name in self.lists}
        if not lists:
            return
        places = [batch.start + place for place in batch.scored]
        for name, log in self.lists.items():
            log.note(places, lists[name], batch.targets)
        self.sittings.note(batch, lists)

    def finish(self) -> None:
        """Take notice of the end of the stream."""
        self.sittings.finish()
