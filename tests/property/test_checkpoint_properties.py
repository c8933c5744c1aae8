import shutil
import tempfile
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from online_model import checkpoint
from online_model.protocol import State


@settings(deadline=None)
@given(st.data())
def test_whatever_one_byte_does_the_older_whole_one_is_found(data):
    """Any byte flipped, any cut: never a wrong tensor, never an exception that is not expected.

    Red without the checksum of the files, and without that of the manifest.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in (1, 2):
            path = checkpoint.save(
                folder, {"learner": State({"w": torch.arange(6.0) * number}, {"n": number})}, {"at": number}
            )
        victim = path / data.draw(st.sampled_from(["learner.safetensors", "manifest.json"]))
        content = bytearray(victim.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        damage = data.draw(st.sampled_from(["flip", "cut", "append", "remove"]))
        if damage == "flip":
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        elif damage == "cut":
            del content[place:]
        elif damage == "append":
            content += b"x"
        victim.write_bytes(bytes(content))
        if damage == "remove":
            victim.unlink()
        found = checkpoint.newest(folder)
        at = found.checkpoint.metadata["at"]
        state = found.checkpoint.states["learner"]
        assert state.metadata == {"n": at}
        assert torch.equal(state.tensors["w"], torch.arange(6.0) * at)
        if damage != "append" or victim.name != "manifest.json":
            assert (at, len(found.skipped)) == (1, 1)
        shutil.rmtree(path, ignore_errors=True)
