"""Keys from a real pseudo-terminal."""

import os
import pty
import termios
from collections.abc import Iterator

import pytest

from stream.live.keys import Keys


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    for descriptor in (ours, theirs):
        os.close(descriptor)


def test_a_key_is_read_without_a_line_end(terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    with Keys(theirs) as keys:
        os.write(ours, b"n")
        assert keys.wait(5) == "n"
        assert keys.wait(0) == ""


def test_an_arrow_is_no_command(terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    with Keys(theirs) as keys:
        os.write(ours, b"\x1b[D")
        assert keys.wait(5) == ""


def test_the_terminal_is_as_it_was_even_after_an_error(terminal: tuple[int, int]) -> None:
    _, theirs = terminal
    before = termios.tcgetattr(theirs)

    def fail() -> None:
        with Keys(theirs):
            assert termios.tcgetattr(theirs) != before
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert termios.tcgetattr(theirs) == before


def test_without_a_terminal_there_are_no_keys_and_it_waits_all_the_same() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, b"q")
        with Keys(reading) as keys:
            assert keys.wait(0.01) == ""
    finally:
        os.close(reading)
        os.close(writing)
