import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_model.guard import (
    HARM,
    PROBATION,
    REST,
    TRIAL_EXAMPLES,
    TRIAL_PAIRS,
    Guard,
    Observed,
    Suspicion,
    Trial,
)
from online_model.protocol import State

BATCH = 64


def watched(guard, n, hit_rate, *, start=0, loss=0.5, seed=0, frozen_only=0):
    """Let a guard see `n` mini-batches; return the log offset where it first suspected, None where it did not."""
    chance = random.Random(seed)
    for number in range(n):
        first = start + number * BATCH
        hits = sum(chance.random() < hit_rate for _ in range(40))
        seen = Observed(first, first + BATCH, 40, hits, loss + chance.gauss(0, 0.02), 60, 0, frozen_only)
        guard.observe(seen)
        if guard.suspicion is not None:
            return first + BATCH
    return None


def fallen(max_returns=3):
    guard = Guard(max_returns)
    assert watched(guard, 2_000, 0.4) is None
    assert watched(guard, 200, 0.2, start=2_000 * BATCH) is not None
    return guard


def harmful(trial, n=200):
    trial.compare([False] * n + [True] * 100, [True] * n + [True] * 100)


def restored(guard):
    other = Guard(3)
    other.load_state(State({}, json.loads(json.dumps(guard.state().metadata, allow_nan=False))))
    return other


def test_a_steady_stream_is_not_suspected():
    assert watched(Guard(3), 5_000, 0.4) is None


def test_a_hit_rate_that_falls_is_suspected_and_dated():
    guard = fallen()
    assert guard.suspicion.reason == "hit-rate"
    assert abs(guard.suspicion.since - 2_000 * BATCH) <= 8 * BATCH


def test_a_loss_that_grows_is_suspected():
    guard = Guard(3)
    watched(guard, 1_000, 0.4)
    watched(guard, 200, 0.4, start=1_000 * BATCH, loss=0.8)
    assert guard.suspicion.reason == "loss"


def test_a_frozen_copy_that_is_ahead_is_suspected_and_later_not_again_and_again():
    """Red without the rest."""
    guard = Guard(3)
    assert watched(guard, 1_000, 0.4, frozen_only=1) == 76 * BATCH
    assert guard.suspicion == Suspicion("frozen", None)
    guard.dismiss()
    position = guard.position
    assert watched(guard, 2_000, 0.4, start=position, frozen_only=1) >= position + REST


def test_a_suspicion_is_no_return():
    guard = fallen()
    guard.dismiss()
    assert guard.suspicion is None
    assert guard.returns == ()
    assert watched(guard, 500, 0.2, start=guard.position) is None


def test_a_trial_ends_by_evidence_or_by_its_length():
    """Red without any one of the four.

    Evidence of harm, evidence of a cure, the bound on pairs, the bound on records.
    """
    guard = fallen()
    guard.open_trial("checkpoint-1", 10)
    assert guard.trial.verdict(guard.position) == "open"
    harmful(guard.trial)
    assert guard.trial.verdict(guard.position) == "harmful"
    cured = Trial("loss", 0, "c", 0)
    cured.compare([True] * 40, [False] * 40)
    assert cured.verdict(1) == "harmless"
    long = Trial("loss", 0, "c", 0)
    long.compare([True] * TRIAL_PAIRS, [True] * TRIAL_PAIRS)
    assert long.verdict(1) == "harmless"
    assert Trial("loss", 0, "c", 7).verdict(7 + TRIAL_EXAMPLES) == "harmless"


def test_a_checkpoint_that_is_hardly_better_is_not_worth_it():
    """Without the share that must be material, the many pairs alone would be proof: it was seen red."""
    trial = Trial("loss", 0, "c", 0)
    trial.compare([True] * 4_500, [True] * 4_500)
    trial.compare([False] * 90, [True] * 90)
    assert trial.harm.log_evidence > HARM
    assert trial.verdict(1) == "open"


@given(st.integers(0, 10_000), st.integers(0, 4))
def test_equal_models_are_never_sentenced(seed, tilt):
    """Whatever the checkpoint is: one that is right as often as the model is not gone back to.

    Red where evidence of harm is not asked for.
    """
    chance = random.Random(seed)
    trial = Trial("loss", 0, "c", 0)
    for number in range(40):
        live = [chance.random() < 0.1 * tilt for _ in range(64)]
        trial.compare(live, [chance.random() < 0.1 * tilt for _ in live])
        assert trial.verdict(number) != "harmful"


def test_what_is_left_out_is_from_the_fall_to_the_verdict():
    """Red without the probation."""
    guard = fallen()
    since = guard.suspicion.since
    guard.open_trial("checkpoint-1", 10)
    watched(guard, 10, 0.2, start=guard.position)
    harmful(guard.trial)
    end = guard.position
    after = Guard(3)
    after.load_state(guard.after(guard.sentence(), State()))
    assert not after.leaves_out(since - 1)
    assert after.leaves_out(since)
    assert after.leaves_out(end - 1)
    assert not after.leaves_out(end)
    assert after.trial is None
    assert after.n_returns == 1
    assert [after.pace(place) for place in (since, end, end + PROBATION - 1)] == [1.0, 0.5, 0.5]
    assert after.pace(end + max(PROBATION, end - since)) == 1.0


def test_nothing_before_the_checkpoint_is_left_out():
    """Red where the suspicion's own start is taken."""
    guard = fallen()
    later = guard.suspicion.since + 5
    guard.open_trial("checkpoint-1", later)
    assert guard.trial.since == later


def test_it_goes_on_with_the_past_of_the_checkpoint():
    """What levels were before the harm is what they are measured against after it."""
    guard = Guard(3)
    watched(guard, 2_000, 0.4)
    then = guard.state()
    watched(guard, 200, 0.2, start=2_000 * BATCH)
    guard.open_trial("checkpoint-1", 2_000 * BATCH)
    harmful(guard.trial)
    decided = guard.sentence()
    guard.load_state(guard.after(decided, then))
    assert watched(guard, 100, 0.2, start=decided.end) is not None


def test_while_one_checkpoint_is_on_trial_nothing_else_is_suspected():
    """Red where a suspicion comes up beside a trial: the next trial would take its place before it is decided."""
    guard = fallen()
    guard.open_trial("checkpoint-1", 0)
    assert watched(guard, 300, 0.1, start=guard.position, frozen_only=1) is None


def test_a_return_forgets_the_fall_and_the_lead_that_the_checkpoint_had_seen_begin():
    """Red where either of the two is kept: the first mini-batch after the return would be suspected again."""
    guard = Guard(3)
    watched(guard, 2_000, 0.4)
    # Of a fall and a lead, so much that either is nearly noticed.
    watched(guard, 4, 0.0, start=guard.position, frozen_only=8)
    then = guard.state()
    assert watched(guard, 40, 0.2, start=guard.position, frozen_only=1) is not None
    guard.open_trial("checkpoint-1", guard.position)
    harmful(guard.trial)
    guard.load_state(guard.after(guard.sentence(), then))
    facts = guard.state().metadata
    assert (facts["frozen"], facts["hit_rate"]["since"]) == (0.0, None)
    assert watched(guard, 2, 0.4, start=guard.position) is None


def test_returns_are_bounded_and_each_goes_further():
    """A stream that never gets better cannot make it loop: each return ends later, and the last one allowed stays.

    Raise the bound, or let the returns be forgotten: it was seen red.
    """
    guard = Guard(3)
    watched(guard, 2_000, 0.4)
    good = guard.state()
    ends, position = [], 2_000 * BATCH
    for _ in range(20):
        at = watched(guard, 100, 0.2, start=position)
        if at is None:
            break
        guard.open_trial("checkpoint-1", 2_000 * BATCH)
        harmful(guard.trial)
        ends.append(guard.sentence().end)
        guard.load_state(guard.after(guard.sentence(), good))
        position = ends[-1]
    assert len(ends) == 3
    assert ends == sorted(set(ends))
    assert guard.exhausted
    later = max(past.until for past in guard.returns)
    guard.observe(Observed(later, later + BATCH))
    assert not guard.exhausted


def test_it_survives_a_restart_in_the_middle_of_a_trial():
    guard = fallen()
    guard.open_trial("checkpoint-1", 10)
    guard.trial.compare([True, False, False], [True, True, False])
    other = restored(guard)
    assert other.trial == guard.trial
    for one in (guard, other):
        harmful(one.trial)
    assert guard.sentence() == other.sentence()
    assert restored(guard).state() == guard.state()


def test_a_guard_without_a_past_is_new_and_a_broken_one_is_told():
    guard = fallen()
    guard.load_state(State())
    assert guard.state() == Guard(3).state()
    with pytest.raises(ValueError, match="'rest_until'"):
        guard.load_state(State({}, {"position": 1}))


def test_a_trial_needs_a_suspicion():
    with pytest.raises(RuntimeError, match="suspicion"):
        Guard(3).open_trial("checkpoint-1", 0)
    with pytest.raises(RuntimeError, match="no trial"):
        Guard(3).sentence()
