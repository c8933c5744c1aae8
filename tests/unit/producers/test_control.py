import os

import pytest

from producers.control import Commands


@pytest.fixture
def pipe():
    read, write = os.pipe()
    yield read, write
    os.close(read)


def test_commands_come_line_by_line_also_in_pieces(pipe):
    read, write = pipe
    commands = Commands(read)
    assert commands.take() == []
    os.write(write, b"launch\ndri")
    assert commands.take(1.0) == ["launch"]
    os.write(write, b"ft\n\n launch \n")
    assert commands.take(1.0) == ["drift", "launch"]
    assert not commands.ended
    os.write(write, b"last")
    os.close(write)
    assert commands.take(1.0) == []
    assert commands.take(1.0) == ["last"]
    assert commands.ended
    assert commands.take(1.0) == []
