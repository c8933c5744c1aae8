import pytest

from producers.files import FileUnreadable, Line, open_events
from producers.mapping import EventMapper
from producers.pace import RecordedPace
from producers.replay import MAX_PROBLEMS, Replay, sample, shift_to_now
from producers.terminal import Stop
from producers.times import TimeUnit

NOW = 1_700_000_000_000


class FakeStop(Stop):
    """Waiting moves the clock instead of taking time."""

    def __init__(self):
        super().__init__()
        self.now = 0.0

    def wait(self, seconds):
        self.now += seconds
        return self.requested


def lines(n, broken=(), step_ms=1000):
    for number in range(1, n + 1):
        row = {"user_id": f"u{number}", "item_id": "i", "behavior": "view", "timestamp": NOW + number * step_ms}
        yield Line(number, {}, "broken") if number in broken else Line(number, row)


def replay(publisher, the_lines, stop=None, pace=None, **options):
    stop = stop or FakeStop()
    return Replay(EventMapper({}), publisher, pace, stop, clock=lambda: stop.now, **options).run(the_lines)


def test_everything_is_sent_in_order_and_counted(fake_publisher):
    publisher = fake_publisher()
    report = replay(publisher, lines(10))
    assert [event.user_id for event in publisher.events] == [f"u{n}" for n in range(1, 11)]
    assert (report.produced, report.acknowledged, report.skipped, report.last_line) == (10, 10, 0, 10)
    assert report.failure is None


def test_the_limit_counts_events_not_lines(fake_publisher):
    publisher = fake_publisher()
    report = replay(publisher, lines(10, broken={1, 3}), limit=4)
    assert [event.user_id for event in publisher.events] == ["u2", "u4", "u5", "u6"]
    assert (report.produced, report.skipped) == (4, 2)


def test_broken_lines_are_skipped_counted_and_the_first_are_named(fake_publisher):
    report = replay(fake_publisher(), lines(20, broken=range(3, 13)))
    assert (report.produced, report.skipped) == (10, 10)
    assert report.problems == [f"line {n}: broken" for n in range(3, 3 + MAX_PROBLEMS)]


def test_an_event_that_is_invalid_as_a_whole_is_a_broken_line(fake_publisher):
    row = {"user_id": "u" * 300, "item_id": "i", "behavior": "view", "timestamp": NOW}
    report = replay(fake_publisher(), [Line(5, row), *lines(2)])
    assert (report.produced, report.skipped) == (2, 1)
    assert report.problems[0].startswith("line 5: ")
    assert "user_id" in report.problems[0]


def test_stopping_at_a_broken_line_flushes_what_was_sent(fake_publisher):
    publisher = fake_publisher()
    report = replay(publisher, lines(10, broken={5}), stop_on_error=True)
    assert (report.produced, report.acknowledged, publisher.flushes) == (4, 4, 1)
    assert report.failure == "stopped at line 5: broken"


def test_a_stop_between_events_flushes_and_keeps_the_counts(fake_publisher):
    publisher, stop = fake_publisher(), FakeStop()
    publisher.on_send = lambda: stop.request() if publisher.sent == 3 else None
    report = replay(publisher, lines(10), stop)
    assert (report.produced, report.acknowledged, report.last_line) == (3, 3, 3)


def test_a_broker_that_goes_is_told_with_what_it_acknowledged(fake_publisher):
    publisher = fake_publisher(breaks_after=4)
    publisher.on_send = publisher.poll
    report = replay(publisher, lines(100))
    assert (report.produced, report.acknowledged) == (5, 4)
    assert "1 not acknowledged" in report.failure


def test_a_broker_that_goes_while_waiting_ends_the_wait(fake_publisher):
    stop = FakeStop()
    pace = RecordedPace(1.0, lambda: stop.now, max_pause_seconds=1e6)
    report = replay(fake_publisher(breaks_after=0), lines(5, step_ms=3_600_000), stop, pace)
    assert (report.produced, report.acknowledged) == (1, 0)
    assert stop.now < 1


def test_the_pace_is_that_of_the_recording(fake_publisher):
    stop = FakeStop()
    replay(fake_publisher(), lines(11), stop, RecordedPace(2.0, lambda: stop.now))
    assert stop.now == pytest.approx(5)


def test_what_stands_before_a_damage_is_sent(fake_publisher):
    def damaged():
        yield from lines(3)
        raise FileUnreadable("damaged after line 3")

    report = replay(fake_publisher(), damaged())
    assert (report.produced, report.acknowledged, report.failure) == (3, 3, "damaged after line 3")


def test_a_damage_in_the_first_lines_waits_its_turn(tmp_path, fake_publisher):
    path = tmp_path / "e.jsonl"
    path.write_text('{"timestamp": 1}\n{"timestamp": 2}\n')

    class Damaged:
        def __iter__(self):
            yield from lines(3)
            raise FileUnreadable("damaged")

    the_lines, times = sample(Damaged(), EventMapper({}))
    assert times == [NOW + 1000, NOW + 2000, NOW + 3000]
    assert replay(fake_publisher(), the_lines).failure == "damaged"
    with open_events(path) as file:
        the_lines, times = sample(file, EventMapper({}))
        assert times == [1, 2]
        assert [line.number for line in the_lines] == [1, 2]


def test_shifted_times_are_never_ahead_of_their_sending():
    times = ["broken", NOW + 1000, NOW + 9000, NOW + 5000]
    assert shift_to_now(times, TimeUnit.MILLISECONDS, NOW + 100_000, 1.0) == 99_000
    assert shift_to_now(times, TimeUnit.MILLISECONDS, NOW + 100_000, 2.0) == 91_000
    assert shift_to_now(times, TimeUnit.MILLISECONDS, NOW + 100_000, None) == 91_000
    assert shift_to_now([], TimeUnit.MILLISECONDS, NOW, None) == 0


def test_a_line_that_is_not_utf_8_is_a_broken_line(tmp_path, fake_publisher):
    path = tmp_path / "e.csv"
    path.write_bytes(b"user_id,item_id,behavior,timestamp\nu\xff,i,view,1700000000000\nu,i,view,1700000000000\n")
    with open_events(path) as file:
        report = replay(fake_publisher(), file)
    assert (report.produced, report.skipped) == (1, 1)
    assert report.problems == ["line 2: a text is not valid Unicode"]
