from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producers.times import TimeUnit, TimeUnitUnclear, choose_unit, to_milliseconds

moments = st.integers(10**11, 4 * 10**12)
offsets = st.integers(-14 * 60, 14 * 60)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(moments)
def test_seconds_milliseconds_and_text_name_the_same_moment(ms):
    assert to_milliseconds(ms, TimeUnit.MILLISECONDS) == ms
    assert to_milliseconds(str(ms), TimeUnit.MILLISECONDS) == ms
    assert to_milliseconds(ms / 1000, TimeUnit.SECONDS) == ms
    assert to_milliseconds(f"{ms // 1000}.{ms % 1000:03d}", TimeUnit.SECONDS) == ms
    assert to_milliseconds(ms // 1000, TimeUnit.SECONDS) == ms // 1000 * 1000


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(moments, offsets, st.sampled_from([TimeUnit.SECONDS, TimeUnit.MILLISECONDS]))
def test_dates_with_an_offset_need_no_unit(ms, minutes, unit):
    moment = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)
    there = moment.astimezone(timezone(timedelta(minutes=minutes)))
    assert to_milliseconds(there.isoformat(), unit) == ms
    assert to_milliseconds(there, unit) == ms
    assert to_milliseconds(moment.isoformat().replace("+00:00", "Z"), unit) == ms
    assert to_milliseconds(moment.replace(tzinfo=None), unit) == ms


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(moments, min_size=1, max_size=50))
def test_the_unit_is_found(times):
    assert choose_unit(times)[0] is TimeUnit.MILLISECONDS
    assert choose_unit([str(ms) for ms in times])[0] is TimeUnit.MILLISECONDS
    assert choose_unit([f"{ms / 1000:.3f}" for ms in times])[0] is TimeUnit.SECONDS


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-31T08:00:00",
        "yesterday",
        "",
        None,
        True,
        [1],
        "nan",
        "inf",
        1e300,
        -1,
        0,
        date(2026, 1, 31),
        "1969-12-31T00:00:00Z",
    ],
)
@pytest.mark.parametrize("unit", [TimeUnit.SECONDS, TimeUnit.MILLISECONDS])
def test_what_names_no_moment_of_ours_is_refused(value, unit):
    with pytest.raises((ValueError, OverflowError)):
        to_milliseconds(value, unit)


def test_the_wrong_unit_is_noticed():
    with pytest.raises(ValueError, match="not in seconds"):
        to_milliseconds(1_700_000_000_000, TimeUnit.SECONDS)
    with pytest.raises(ValueError, match="not in milliseconds"):
        to_milliseconds(1_700_000_000, TimeUnit.MILLISECONDS)


def test_a_few_broken_times_do_not_decide():
    assert choose_unit([1_700_000_000_000] * 99 + [0])[0] is TimeUnit.MILLISECONDS
    assert choose_unit(["x", "2026-01-31T08:00:00Z"])[0] is TimeUnit.MILLISECONDS


@pytest.mark.parametrize("times", [[1_700_000_000, 1_700_000_000_000], [1_700_000_000_000_000]])
def test_an_unclear_unit_is_asked_for(times):
    with pytest.raises(TimeUnitUnclear, match="milliseconds"):
        choose_unit(times)
