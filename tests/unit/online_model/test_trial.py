"""One pass with all arms: when copies are taken, what they know, and that all arms meet the same events."""

from collections.abc import Sequence

import pytest

from online_model.evaluation.arms import in_sample
from online_model.evaluation.sequences import Sequences
from online_model.evaluation.streams import StreamEvent
from online_model.evaluation.trial import Trial, TrialOutcome, TrialPlan
from online_model.evaluation.trial_plot import draw_trial
from online_model.protocol import Example, LearnReport, Ranked, Request, State

HOUR_MS = 3_600_000
ROLES = {"view": ("view", "interest")}


class Parrot:
    """Knows nothing but the item that it learned last of anybody, and lists that."""

    def __init__(self, item: str = "", log: list[str] | None = None) -> None:
        self.item = item
        self.log = [] if log is None else log

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranked]:
        return [Ranked([self.item] if self.item else [], [1.0] if self.item else [], ["x"], 1) for _ in requests]

    def rank(self, requests: Sequence[Request], targets: Sequence[str]) -> list[int]:
        return [int(target == self.item) for target in targets]

    def learn(self, examples: Sequence[Example]) -> LearnReport:
        self.item = examples[-1].item or ""
        self.log.append(self.item)
        return LearnReport(len(examples), 0, None, 0, 1)

    def state(self) -> State:
        return State()

    def load_state(self, state: State) -> None:
        pass


def events(n_events: int, hours_apart: float, n_users: int = 1) -> list[StreamEvent]:
    """Two of each item in turn: whoever knows the last item is right every other time."""
    return [
        StreamEvent(n + 2, f"u{n % n_users}", f"i{n // 2}", "view", round(n * hours_apart * HOUR_MS))
        for n in range(n_events)
    ]


def run(stream: list[StreamEvent], plan: TrialPlan, batch_size: int = 1) -> tuple[TrialOutcome, list[str]]:
    live = Parrot()
    copies: list[str] = []

    def copy() -> Parrot:
        copies.append(live.item)
        return Parrot(live.item)

    trial = Trial(plan, live, copy, {"markov": Parrot(), "popularity": Parrot()}, batch_size)
    return trial.run(Sequences(ROLES, None).follow(stream)), copies


def test_a_copy_is_refreshed_every_24_hours_of_event_time():
    stream = events(20, 8)
    plan = TrialPlan.of(stream)
    assert plan == TrialPlan(20, 6, None, 1.0)
    outcome, copies = run(stream, plan)
    # One a day, from what stood before; the frozen one too is taken at event 6.
    assert copies == ["i1", "i2", "i2", "i4", "i5", "i7", "i8"]
    assert outcome.compared_from == 6


def test_on_less_than_three_days_it_is_every_tenth_instead():
    stream = events(40, 1)
    plan = TrialPlan.of(stream)
    assert plan == TrialPlan(40, 12, 4, 1.0)
    _, copies = run(stream, plan)
    assert len(copies) == 9 + 1


def test_copies_do_not_learn_and_answer_only_from_where_they_stand():
    # One item per pair; repeats are not scored, so the second of each pair is another user's.
    stream = events(40, 1, n_users=2)
    outcome, _ = run(stream, TrialPlan(40, 12, 4, 1.0))
    # Rivals have learned the first of each pair when the second comes, and no copy has.
    assert outcome.compared["markov"].recall == 0.5
    assert outcome.compared["nightly"].recall == 0
    assert outcome.compared["frozen"].recall == 0


def test_all_arms_are_compared_on_the_same_events():
    outcome, _ = run(events(200, 1, n_users=3), TrialPlan(200, 60, 20, 1.0), batch_size=7)
    # Copies are taken between mini-batches.
    assert outcome.compared_from == 63
    assert {accuracy.scored for accuracy in outcome.compared.values()} == {200 - 63}
    assert outcome.courses["live"].scored == outcome.courses["markov"].scored == 200 - 3
    assert outcome.courses["frozen"].recall_tenths[0] is None


def test_live_is_measured_by_the_list_of_the_previous_event():
    # Each user comes once in three events: what live listed then is older than the last item.
    outcome, _ = run(events(60, 1, n_users=3), TrialPlan(60, 18, 6, 1.0))
    assert outcome.compared["live"].recall == 0
    assert outcome.compared["markov"].recall == pytest.approx(0.5, abs=0.02)
    assert outcome.difference is not None
    assert outcome.difference.difference == 0


def test_only_the_sample_is_measured_and_everything_learned():
    stream = events(400, 1, n_users=20)
    sampled = {event.key for event in stream if in_sample(event.key, 0.3)}
    assert 0 < len(sampled) < 20
    outcome, _ = run(stream, TrialPlan(400, 120, 40, 0.3))
    assert {arm: accuracy.scored for arm, accuracy in outcome.courses.items() if arm in ("live", "markov")} == {
        "live": 19 * len(sampled),
        "markov": 19 * len(sampled),
    }
    assert outcome.compared["markov"].recall == pytest.approx(
        sum(event.line % 2 for event in stream if event.key in sampled and event.line - 2 >= 120)
        / sum(event.key in sampled and event.line - 2 >= 120 for event in stream)
    )


def test_nothing_is_compared_where_copies_never_come():
    outcome, copies = run(events(5, 1), TrialPlan(5, 9, 9, 1.0))
    assert copies == []
    assert outcome.compared_from is None
    assert outcome.difference is None
    assert outcome.compared["live"].recall is None


def test_a_long_stream_is_measured_on_a_share_of_its_users():
    stream = [StreamEvent(1, "u", "i", "view", 0)] * 400_000
    assert TrialPlan.of(stream).sample == 0.25


def test_the_picture(tmp_path):
    pytest.importorskip("matplotlib")
    outcome, _ = run(events(200, 1, n_users=3), TrialPlan(200, 60, 20, 1.0))
    names = {arm: arm.title() for arm in outcome.courses}
    draw_trial(tmp_path / "p.svg", outcome, 200, "events.csv", names)
    assert (tmp_path / "p.svg").stat().st_size > 1_000
