import msgspec
import pytest

from producers.catalogue import read_catalogue
from producers.pace import SteadyPace
from producers.shop import Shop
from producers.shop_config import ShopConfig
from producers.synthetic import CatalogueOutput, Synthetic, event_clock
from producers.terminal import Stop

T0 = 1_700_000_000_000
SMALL = ShopConfig(users=50, items=80, seed=3, renew_every=50)


class FakeTime(Stop):
    """A clock that only waiting moves; it is also the stop, and the source of commands."""

    def __init__(self, commands=()):
        super().__init__()
        self.now = 0.0
        self.ended = False
        self._due = sorted(commands)

    def wait(self, seconds):
        self.now += seconds
        return self.requested

    def take(self, seconds=0.0):
        self.now += seconds
        due = [command for at, command in self._due if at <= self.now]
        self._due = self._due[len(due) :]
        self.ended = "end" in due
        return [command for command in due if command != "end"]

    def wall_ms(self):
        return T0 + round(self.now * 1000)


class FakeDelivery:
    def __init__(self):
        self.records = []
        self.flushes = 0

    def send(self, topic, key, value):
        self.records.append((topic, key, value))

    def flush(self, timeout_seconds):
        self.flushes += 1


def synthetic(publisher, time, catalogue=None, pace=True, **options):
    statuses = []
    made = Synthetic(
        Shop(SMALL, "r", T0),
        publisher,
        catalogue or CatalogueOutput(None, "", None),
        event_clock(time.wall_ms, 1.0, None),
        SteadyPace(100.0, lambda: time.now) if pace else None,
        time,
        clock=lambda: time.now,
        wall_ms=time.wall_ms,
        on_status=statuses.append,
        **options,
    )
    return made.run(), statuses


def test_the_limit_and_the_pace(fake_publisher):
    time, publisher = FakeTime(), fake_publisher()
    report, statuses = synthetic(publisher, time, limit=501)
    assert (report.events, report.acknowledged, report.failure) == (501, 501, None)
    assert time.now == pytest.approx(5)
    assert [event.timestamp for event in publisher.events][:3] == [T0, T0 + 10, T0 + 20]
    assert [status["events"] for status in statuses][:2] == [pytest.approx(100, abs=6), pytest.approx(200, abs=12)]
    assert statuses[1]["rate"] == pytest.approx(100, abs=6)
    assert statuses[-1]["acknowledged"] == 501
    assert 0 < statuses[-1]["best_reachable_recent"] < 1


def test_commands_are_answered_and_the_end_of_the_parent_is_the_end(fake_publisher):
    time = FakeTime([(1.0, "launch"), (2.0, "drift"), (2.1, "dance"), (3.0, "end")])
    report, statuses = synthetic(fake_publisher(), time, commands=time)
    answers = [status for status in statuses if "events" not in status]
    assert [list(answer) for answer in answers] == [["launched", "title", "at"], ["drifted", "at"], ["error"]]
    assert answers[0]["at"] == pytest.approx(T0 + 1000, abs=100)
    assert report.events == pytest.approx(300, abs=10)


def test_a_launched_item_is_in_the_catalogue_at_once(fake_publisher):
    delivery, time = FakeDelivery(), FakeTime([(0.2, "launch"), (0.3, "end")])
    _, statuses = synthetic(fake_publisher(), time, CatalogueOutput(delivery, "items", None), commands=time)
    launched = next(status for status in statuses if "launched" in status)
    assert len(delivery.records) == 80 + 2
    (_, _, withdrawn), (topic, key, value) = delivery.records[-2:]
    assert withdrawn is None
    assert (topic, key) == ("items", launched["launched"].encode())
    assert msgspec.json.decode(value)["title"] == launched["title"]


def test_the_catalogue_file_follows_the_shop(fake_publisher, tmp_path):
    path = tmp_path / "items.jsonl"
    shop = Shop(SMALL, "r", T0)
    synthetic(fake_publisher(), FakeTime(), CatalogueOutput(None, "", path), limit=500)
    assert len(read_catalogue(path)) == 80
    assert {item.item_id for item in read_catalogue(path)} != {item.item_id for item in shop.stock.items}
    size = path.stat().st_size
    CatalogueOutput(None, "", path, [item.item_id for item in shop.stock.items]).write(shop.stock.take_changes())
    assert path.stat().st_size == size


def test_a_broker_that_goes_is_told(fake_publisher):
    publisher = fake_publisher(breaks_after=30)
    report, _ = synthetic(publisher, FakeTime(), limit=1000)
    assert report.acknowledged == 30
    assert report.events < 50
    assert "not acknowledged" in report.failure


def test_a_catalogue_file_that_cannot_be_written_is_told(fake_publisher, tmp_path):
    report, _ = synthetic(fake_publisher(), FakeTime(), CatalogueOutput(None, "", tmp_path / "no" / "x"), limit=10)
    assert "No such file" in report.failure


def test_event_time_is_never_in_the_future():
    now = T0
    assert event_clock(lambda: now, 1.0, None)(5) == T0
    history = event_clock(lambda: now, 2.0, 1000)
    assert (history(1000), history(999), history(1)) == (T0, T0 - 10, T0 - 9990)
    compressed = event_clock(lambda: now, 600.0, None)
    began = compressed(1)
    now += 1000
    assert compressed(2) - began == 600_000
    now += 90 * 86_400_000
    assert compressed(3) == now
