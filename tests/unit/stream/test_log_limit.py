import io
import logging
import threading

from hypothesis import given
from hypothesis import strategies as st

from stream.log_limit import CalmHandler, Kind, StormLimit

STORM = Kind("aiokafka", logging.ERROR, "no connection to %s")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def logger_to(stream: io.StringIO, limit: StormLimit | None = None) -> tuple[logging.Logger, CalmHandler]:
    handler = CalmHandler(stream, limit)
    logger = logging.Logger("client")
    logger.addHandler(handler)
    return logger, handler


def test_the_first_lines_of_a_kind_are_written_and_the_rest_is_summed_up() -> None:
    """Red where nothing is held back, where it is not counted, and where the end leaves it untold."""
    stream = io.StringIO()
    logger, handler = logger_to(stream)
    for number in range(1000):
        logger.error("no connection to %s", number)
        logger.error("another line")
    handler.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 8
    assert lines.count("another line") == 3
    assert "... 997 more in 10 s: no connection to %s" in lines


def test_nothing_critical_is_held_back() -> None:
    """Red where such lines are like others."""
    stream = io.StringIO()
    logger, _ = logger_to(stream)
    for _ in range(100):
        logger.critical("the end")
    assert stream.getvalue().splitlines() == ["the end"] * 100


def test_a_sum_comes_by_itself_when_the_storm_is_over() -> None:
    """Red without the timer, and where it is not started again for another storm."""
    told = threading.Event()

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            if "7 more" in text:
                told.set()
            return super().write(text)

    clock = Clock()
    logger, handler = logger_to(Stream(), StormLimit(clock=clock))
    for _ in range(10):
        logger.error("down")
    first = handler._timer
    assert first is not None
    first.cancel()
    clock.now += 9
    for _ in range(10):
        logger.error("down as well")
    clock.now += 1
    handler._sum_up()
    assert told.is_set()
    assert handler._timer not in (None, first)  # the second storm's sum is still to come
    handler._timer.cancel()


def test_a_slow_drip_is_written_whole() -> None:
    clock = Clock()
    limit = StormLimit(clock=clock)
    for _ in range(100):
        assert limit.admit(STORM)
        clock.now += 5


def test_texts_that_never_repeat_take_no_memory() -> None:
    """Red without the bound."""
    limit = StormLimit(clock=Clock())
    for number in range(10_000):
        assert limit.admit(Kind("x", logging.ERROR, str(number)))
    assert len(limit._windows) <= 1_000


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 20)), max_size=200), st.booleans())
def test_every_line_is_written_or_told_in_a_sum(steps: list[tuple[int, float]], swept: bool) -> None:
    """Red where lines are held back and not counted."""
    clock = Clock()
    limit = StormLimit(clock=clock)
    n_written = n_told = 0
    for kind, seconds in steps:
        clock.now += seconds
        n_written += limit.admit(Kind("x", logging.ERROR, str(kind)))
        if swept:
            n_told += sum(n for _, n in limit.sums())
    n_told += sum(n for _, n in limit.sums(everything=True))
    assert n_written + n_told == len(steps)
    assert not limit.holds_back
