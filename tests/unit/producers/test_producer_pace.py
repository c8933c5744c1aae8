import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.pace import RecordedPace, SteadyPace


class FakeClock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@settings(deadline=None)
@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=30).map(sorted), st.floats(0.1, 100))
def test_recorded_pace_keeps_the_recorded_distances(times, speed):
    clock = FakeClock()
    pace = RecordedPace(speed, clock, max_pause_seconds=1e9)
    for time in times:
        clock.now += pace.delay(time)
        assert clock.now - 100 == pytest.approx((time - times[0]) / 1000 / speed)


def test_long_pauses_are_cut_and_do_not_come_back():
    clock = FakeClock()
    pace = RecordedPace(2.0, clock, max_pause_seconds=10)
    assert pace.delay(0) == 0
    assert pace.delay(86_400_000) == 10
    clock.now += 10
    assert pace.delay(86_402_000) == pytest.approx(1)


def test_an_event_out_of_order_is_sent_at_once_and_does_not_turn_the_schedule_back():
    clock = FakeClock()
    pace = RecordedPace(1.0, clock)
    pace.delay(5000)
    assert pace.delay(1000) == 0
    assert pace.delay(6000) == pytest.approx(1)


def test_what_was_late_is_caught_up_with():
    clock = FakeClock()
    pace = RecordedPace(1.0, clock)
    pace.delay(0)
    clock.now += 5
    assert pace.delay(3000) == 0
    assert pace.delay(6000) == pytest.approx(1)


def test_steady_pace():
    clock = FakeClock()
    pace = SteadyPace(4.0, clock)
    for _ in range(100):
        clock.now += pace.delay()
    assert clock.now - 100 == pytest.approx(99 / 4)


def test_a_machine_that_slept_does_not_send_everything_at_once():
    clock = FakeClock()
    pace = SteadyPace(10.0, clock, max_backlog_seconds=1.0)
    pace.delay()
    clock.now += 3600
    assert pace.delay() == 0
    assert pace.delay() == pytest.approx(0.1)
