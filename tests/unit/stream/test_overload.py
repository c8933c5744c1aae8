from hypothesis import given
from hypothesis import strategies as st

from stream.overload import (
    MAX_GROWTH,
    RESUME_SECONDS,
    AnswerPressure,
    LearningPressure,
    Levels,
    Regime,
    is_sampled,
)
from stream.settings import OverloadSettings

SETTINGS = OverloadSettings()
lags = st.floats(0, 10_000, allow_nan=False)


@given(st.lists(lags))
def test_a_level_is_entered_above_its_threshold_and_left_at_half(seen: list[float]) -> None:
    levels, before = Levels((1.0, 5.0)), 0
    for lag in seen:
        level = levels.observe(lag)
        assert level >= (lag > 1.0) + (lag > 5.0)
        assert level <= (lag >= 0.5) + (lag >= 2.5)
        if level > before:
            assert lag > (1.0, 5.0)[level - 1]
        before = level


def test_a_lag_on_the_edge_does_not_switch_back_and_forth() -> None:
    """Red where a level is left at the lag that it was reached at."""
    levels = Levels((1.0, 5.0))
    assert {levels.observe(lag) for lag in (1.01, 0.99, 1.01, 0.99)} == {1}


@given(st.lists(st.tuples(st.integers(1, 4096), st.floats(0.0001, 60), lags), max_size=40))
def test_batches_stay_within_bounds_and_are_as_usual_once_it_is_over(batches: list[tuple[int, float, float]]) -> None:
    """Red without the ceiling, without the floor, and without the return to the usual size."""
    pressure = AnswerPressure(SETTINGS, 256)
    for n_events, seconds, lag in batches:
        pressure.observe(n_events, seconds, lag)
        assert 256 <= pressure.batch_limit <= 256 * MAX_GROWTH
    pressure.observe(1, 0.01, 0.0)
    assert pressure.batch_limit == 256
    assert pressure.level == 0
    assert not pressure.regime.coalesce


def test_batches_grow_to_what_the_deadline_allows() -> None:
    pressure = AnswerPressure(SETTINGS, 256)
    for _ in range(10):
        pressure.observe(pressure.batch_limit, pressure.batch_limit / 2_000, 3.0)
    assert pressure.batch_limit == 1000  # half a second at 2,000 a second
    pressure.observe(1000, 4.0, 3.0)
    assert pressure.batch_limit == 256  # they are dear: more at once would only make all of them wait


def test_nothing_is_live_before_the_worker_has_caught_up() -> None:
    pressure = AnswerPressure(SETTINGS, 256)
    assert not pressure.regime.is_live(5_000, 5_000)
    assert pressure.caught_up(4_000)
    assert not pressure.caught_up(6_000)
    assert pressure.regime == Regime(4_000, coalesce=False)
    assert pressure.regime.is_live(5_000, 5_000)


def test_the_share_halves_with_each_doubling_of_the_lag() -> None:
    """Red where shares have no least one."""
    pressure = LearningPressure(SETTINGS, 64)
    shares = {}
    for lag in (0, 31, 119, 121, 239, 241, 479, 481, 959, 961, 100_000):
        pressure.observe(lag)
        shares[lag] = pressure.share
    assert shares == {
        **{0: 1, 31: 1, 119: 1, 121: 0.5, 239: 0.5, 241: 0.25, 479: 0.25, 481: 0.125, 959: 0.125, 961: 0.0625},
        100_000: 0.0625,
    }


def test_steps_are_larger_while_learning_lags() -> None:
    pressure = LearningPressure(SETTINGS, 64)
    assert pressure.step_size == 64
    pressure.observe(31)
    assert pressure.step_size == 64 * MAX_GROWTH
    pressure.observe(14)
    assert pressure.step_size == 64


def test_who_was_away_for_long_begins_with_a_backlog() -> None:
    """Red where a run takes over what any earlier one knew, and where a backlog can be live."""
    short, long = LearningPressure(SETTINGS, 64), LearningPressure(SETTINGS, 64)
    short.resume(1_000, RESUME_SECONDS - 1)
    long.resume(1_000, RESUME_SECONDS + 1)
    assert short.is_live(1_001, backlog=False)
    assert not short.is_live(999, backlog=False)
    assert not short.is_live(1_001, backlog=True)
    assert not long.is_live(1_001, backlog=False)


@given(st.integers(0, 10**12), st.sampled_from([1.0, 0.5, 0.25, 0.125]))
def test_a_smaller_sample_is_part_of_a_larger_one(offset: int, share: float) -> None:
    if is_sampled(("tag", 3), offset, share / 2):
        assert is_sampled(("tag", 3), offset, share)


def test_a_sample_is_as_large_as_its_share() -> None:
    for share in (0.5, 0.25, 0.0625):
        n = sum(is_sampled(("tag", 0), offset, share) for offset in range(20_000))
        assert abs(n / 20_000 - share) < 0.01
