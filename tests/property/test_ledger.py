import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_model import ledger as module
from online_model.ledger import Ledger

SMALL = 16
OUTCOMES = st.sampled_from(["learned", "sampled_out", "quarantined"])
SOURCES = st.sampled_from([("a", 0), ("a", 1), ("b", 0)])


@pytest.fixture(autouse=True, scope="module")
def small_window():
    """A window that random offsets cross often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WINDOW", SMALL)
        yield


def deliver(ledger, known, source, offset, outcome):
    """Give one example to the ledger and to a plain set; return whether both agree that it was fresh."""
    highest = max((o for s, o in known if s == source), default=-1)
    below = offset <= highest - SMALL
    fresh = (source, offset) not in known and not below
    assert ledger.fresh(source, offset) == fresh
    if fresh:
        ledger.add(source, offset, outcome)
        known.add((source, offset))
    else:
        ledger.count("duplicate")
    return fresh


@given(
    st.lists(st.tuples(SOURCES, st.integers(-SMALL - 5, SMALL + 5), OUTCOMES), min_size=10, max_size=100),
    st.integers(0, 100),
)
def test_agrees_with_a_set_in_any_order_across_save_and_load(steps, reload_at):
    ledger, known, counts = Ledger(), set(), dict.fromkeys(module.OUTCOMES, 0)
    at = 0
    for index, (source, step, outcome) in enumerate(steps):
        at = offset = max(0, at + step)
        if index == reload_at:
            state, ledger = ledger.state(), Ledger()
            ledger.load_state(state)
        fresh = deliver(ledger, known, source, offset, outcome)
        counts[outcome if fresh else "duplicate"] += 1
    assert ledger.counts == counts
    assert sum(n for outcome, n in ledger.counts.items() if outcome != "duplicate") == len(known)


@given(
    st.lists(st.booleans(), min_size=1, max_size=100),
    st.lists(st.tuples(st.integers(1, SMALL // 2), st.booleans()), max_size=60),
)
def test_batches_published_again_in_order_are_learned_once(applied, batches):
    """As the protocol publishes: in order, from the last committed offset on, with holes where events were rejected."""
    ledger, committed, learned = Ledger(), 0, []
    rest = iter(batches)
    while committed < len(applied):
        size, is_committed = next(rest, (SMALL // 2, True))
        end = min(len(applied), committed + size)
        for offset in range(committed, end):
            if applied[offset] and ledger.fresh(("t", 0), offset):
                ledger.add(("t", 0), offset, "learned")
                learned.append(offset)
        if is_committed or end == len(applied):
            committed = end
    assert sorted(learned) == [offset for offset, is_applied in enumerate(applied) if is_applied]
    assert learned == sorted(learned)


def test_an_outcome_is_final():
    ledger = Ledger()
    ledger.add(("t", 0), 5, "quarantined")
    with pytest.raises(ValueError, match="already has an outcome"):
        ledger.add(("t", 0), 5, "learned")
    with pytest.raises(ValueError, match="at least 0"):
        ledger.add(("t", 0), -1, "learned")
    assert ledger.counts["quarantined"] == 1


def test_a_state_is_a_copy():
    ledger = Ledger()
    ledger.add(("t", 0), 1, "learned")
    state = ledger.state()
    ledger.add(("t", 0), 2, "learned")
    restored = Ledger()
    restored.load_state(state)
    assert restored.fresh(("t", 0), 2)
    restored.add(("t", 0), 3, "learned")
    other = Ledger()
    other.load_state(state)
    assert other.fresh(("t", 0), 3)


def test_windows_of_another_size_are_refused(monkeypatch):
    state = Ledger().state()
    monkeypatch.setattr(module, "WINDOW", 128)
    with pytest.raises(ValueError, match="16 offsets a source, expected 128"):
        Ledger().load_state(state)
