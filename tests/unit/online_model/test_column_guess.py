"""The columns of other people's files."""

import random

import pytest

from online_model.evaluation.guess import guess, guess_gap
from online_model.evaluation.streams import StreamError, StreamEvent
from online_model.evaluation.times import TimeFormat


def rows(columns: list[str], n: int = 400) -> list[list[object]]:
    """Rows whose values fit their columns' first letters: u(ser), i(tem), t(ime), b(ehaviour), and noise."""
    chance = random.Random(1)
    makers = {
        "u": lambda n: f"u{n // 5}",
        "i": lambda n: str(chance.randrange(60)),
        "t": lambda n: 1_500_000_000 + n,
        "b": lambda n: chance.choice(["view", "buy"]),
        "p": lambda n: f"{chance.random() * 10:.2f}",
        "w": lambda n: f"some words {chance.randrange(20)}",
    }
    return [[makers[column](number) for column in columns] for number in range(n)]


NAMES = [
    # names, kinds of values, user, item, behaviour, time
    ("user_id item_id behavior timestamp period", "uibti", "user_id", "item_id", "behavior", "timestamp"),
    ("user_id session_id item_id behavior timestamp", "utibt", "user_id", "item_id", "behavior", "timestamp"),
    ("userId movieId rating timestamp", "uipt", "userId", "movieId", None, "timestamp"),
    ("timestamp visitorid event itemid transactionid", "tubip", "visitorid", "itemid", "event", "timestamp"),
    (
        "event_time event_type product_id category_id category_code brand price user_id user_session",
        *("tbiiwwpuu", "user_id", "product_id", "event_type", "event_time"),
    ),
    (
        "Invoice StockCode Description Quantity InvoiceDate Price Customer_ID Country",
        *("uiwitpuw", "Customer_ID", "StockCode", None, "InvoiceDate"),
    ),
    ("t_dat customer_id article_id price", "tuip", "customer_id", "article_id", None, "t_dat"),
    ("session_id track_id played_at", "uit", "session_id", "track_id", None, "played_at"),
    (
        "user_pseudo_id event_name event_timestamp page_location",
        "ubti",
        *("user_pseudo_id", "page_location", "event_name", "event_timestamp"),
    ),
    ("item_price thing user_age user time", "piput", "user", "thing", None, "time"),
    ("SessionId ItemId Time", "uit", "SessionId", "ItemId", None, "Time"),
]


@pytest.mark.parametrize(("names", "kinds", "user", "item", "behavior", "time"), NAMES)
def test_by_names(names, kinds, user, item, behavior, time):
    columns = names.split()
    found = guess(columns, rows(list(kinds)))
    expected = {"user_id": user, "item_id": item, "timestamp": time, "behavior": behavior}
    assert dict(found.columns) == {field: column for field, column in expected.items() if column is not None}
    assert found.time == TimeFormat("s")
    assert set(found.ignored) == set(columns) - set(found.columns.values())


def test_a_name_is_not_believed_against_the_values():
    columns = ["date", "real_time", "user", "item", "event"]
    table = [["?", 1_500_000_000 + n, f"u{n % 7}", f"i{n % 9}", f"e{n}"] for n in range(300)]
    found = guess(columns, table)
    assert found.columns["timestamp"] == "real_time"
    assert "behavior" not in found.columns


def test_by_values_where_names_say_nothing():
    columns = ["a", "b", "c", "d"]
    found = guess(columns, rows(["p", "i", "t", "u"]))
    assert dict(found.columns) == {"user_id": "d", "item_id": "b", "timestamp": "c"}


def test_no_bet_where_users_and_items_come_back_alike():
    with pytest.raises(StreamError, match="who acted"):
        guess(["a", "b", "c"], rows(["i", "i", "t"]))


def test_no_bet_between_two_columns():
    with pytest.raises(StreamError, match="the item"):
        guess(["user", "time", "x", "y"], rows(["u", "t", "i", "i"]))


def test_what_is_given_is_not_guessed():
    columns = ["user_id", "other", "item_id", "timestamp"]
    found = guess(columns, rows(["u", "u", "i", "t"]), {"user_id": "other"}, "ms")
    assert found.columns["user_id"] == "other"
    assert found.time == TimeFormat("ms")
    assert found.ignored == ("user_id",)


@pytest.mark.parametrize(
    ("columns", "given", "words"),
    [
        (["item_id", "title"], {}, r"no column looks like the time .* or who acted .*item_id, title.*--map"),
        (["user", "item"], {}, "no column looks like the time"),
        (["user", "item", "time"], {"when": "time"}, "cannot map to when"),
        (["user", "item", "time"], {"timestamp": "when"}, "there is no column when"),
        (["user", "item", "time"], {"timestamp": "time"}, "neither numbers nor dates"),
    ],
)
def test_what_cannot_be_guessed_says_what_was_looked_for(columns, given, words):
    table = [[f"x {n % 20}" for _ in columns[:-1]] + [f"y {n}"] for n in range(50)]
    with pytest.raises(StreamError, match=words):
        guess(columns, table, given)


def test_a_sitting_ends_with_a_pause_unless_most_pauses_are_longer():
    def events(*pauses: int) -> list[StreamEvent]:
        times = [sum(pauses[:n]) for n in range(len(pauses) + 1)]
        return [StreamEvent(1, user, "i", "view", time) for time in times for user in ("u", "v")]

    assert guess_gap(events(10, 10, 500), 100) == 100
    assert guess_gap(events(500, 10, 500), 100) is None
    assert guess_gap([], 100) == 100
