"""How times are written, told by a sample of them."""

from datetime import UTC, date, datetime

import pytest

from online_model.evaluation.times import TimeFormat, guess_format

MOMENT = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
MOMENT_MS = round(MOMENT.timestamp() * 1000)
DAY_MS = round(datetime(2010, 12, 1, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (MOMENT_MS // 1000, MOMENT_MS),
        (f"{MOMENT_MS / 1000:.3f}", MOMENT_MS),
        (MOMENT_MS, MOMENT_MS),
        (str(MOMENT_MS * 1000), MOMENT_MS),
        (MOMENT_MS * 1_000_000, MOMENT_MS),
        ("2010-12-01T08:26:00Z", MOMENT_MS),
        ("2010-12-01T09:26:00+01:00", MOMENT_MS),
        ("2010-12-01 08:26:00", MOMENT_MS),
        ("2010-12-01 08:26:00 UTC", MOMENT_MS),
        ("12/1/2010 8:26", MOMENT_MS),
        ("1.12.2010 08:26:00", MOMENT_MS),
        ("12/01/2010 08:26:00 AM", MOMENT_MS),
        ("01/Dec/2010:08:26:00 +0000", MOMENT_MS),
        ("2010-12-01", DAY_MS),
        ("20101201", DAY_MS),
        (20101201, DAY_MS),
        (MOMENT, MOMENT_MS),
        (MOMENT.replace(tzinfo=None), MOMENT_MS),
        (date(2010, 12, 1), DAY_MS),
    ],
)
def test_a_time_is_recognised(value, expected):
    form = guess_format([value] * 30)
    assert form is not None
    assert form.milliseconds(value) == expected


def test_day_and_month_are_told_apart_by_values_that_are_only_one_of_them():
    assert guess_format(["1/2/2010", "25/2/2010"]) == TimeFormat(None, "%d/%m/%Y")
    assert guess_format(["1/2/2010", "2/25/2010"]) == TimeFormat(None, "%m/%d/%Y")


def test_day_and_month_are_told_apart_by_the_order_of_the_file():
    days = [f"{day}/{month}/2010" for month in (1, 2, 3) for day in range(1, 13)]
    assert guess_format(days) == TimeFormat(None, "%d/%m/%Y")


def test_a_few_broken_values_do_not_decide():
    assert guess_format([MOMENT_MS // 1000] * 99 + ["?"]) == TimeFormat("s")
    assert guess_format([MOMENT_MS // 1000] * 9 + ["?"]) is None


@pytest.mark.parametrize("values", [[], [None, ""], ["a", "b"], [True, False], [-5, -6], ["nan"], ["inf"], [[1]]])
def test_no_times(values):
    assert guess_format(values) is None


def test_small_numbers_are_times_only_where_a_name_says_so():
    assert guess_format([0, 10, 20]) == TimeFormat("s")
    assert guess_format([0, 10, 20], sure=False) is None


@pytest.mark.parametrize("value", [None, True, -1, "1e400", 10**400, "soon", 5e12])
def test_what_is_no_time_is_refused(value):
    with pytest.raises(ValueError, match=r"no|could not|finite|too large"):
        TimeFormat("s").milliseconds(value)
