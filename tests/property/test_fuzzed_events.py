"""Whatever stands in a record, two programs that were written apart agree on whether it is an event, and on whose."""

import itertools
from collections import Counter
from dataclasses import dataclass

from stream.behaviors import behavior_table
from stream.records import Rejection, event_decoder, future_rejection
from stream.settings import Settings
from tests.e2e.checker import refuse
from tests.soak.load import fuzzed

SETTINGS = Settings()
NOW = 1_750_000_000_000


@dataclass
class Record:
    content: bytes | None

    def value(self):
        return self.content

    def timestamp(self):
        return 2, NOW


def test_what_is_taken_for_an_event_is_one_and_nothing_raises():
    """100,000 records of the kind that `make soak` sends a million of; what the decoder takes, the checker takes too.

    The decoder may refuse more, as fields that the checker does not look at have types and sizes as well.

    Seen red: with only `msgspec.DecodeError` caught in `event_decoder`.
    """
    decode = event_decoder(SETTINGS.fields, behavior_table(SETTINGS.behaviors))
    found = Counter()
    for value, _ in itertools.islice(fuzzed(seed=7), 100_000):
        event = decode(value)
        if not isinstance(event, Rejection):
            event = future_rejection(event, NOW, SETTINGS.sequence.allowed_future_seconds * 1000) or event
        theirs, why = refuse(Record(value))
        if isinstance(event, Rejection):
            found[event.reason] += 1
            continue
        assert why is None, (value, why)
        same = str(theirs["user_id"]), theirs.get("item_id"), theirs["timestamp"]
        assert (event.user_id, event.item_id, event.timestamp) == (
            same[0],
            None if same[1] is None else str(same[1]),
            same[2],
        ), value
        found["event"] += 1
    assert set(found) >= {"event", "schema", "not-json", "null-value", "unknown-behavior", "from-the-future"}, found
    assert found["event"] > 5_000
