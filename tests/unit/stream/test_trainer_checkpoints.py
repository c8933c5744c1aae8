import pytest
import torch

from online_model import checkpoint
from online_model.protocol import State
from stream.identity import Identity
from stream.settings import Settings
from stream.trainer_checkpoints import Cut, load_newest

IDENTITY = Identity("cluster", {})


def save(settings: Settings, position: int, weight: float) -> None:
    states = {"learner": State({"vectors": torch.full((3, 2), weight), "rows": torch.arange(3)}), "clock": State()}
    cut = Cut(position, IDENTITY, "run", 1, position, 0.0, settings.app_id, "one")
    checkpoint.save(settings.checkpoint_dir, states, cut.metadata())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_passed_over(tmp_path, bad):
    """Each start from them would end at once. Seen red: without `_refuse_broken`, the newest is taken.

    Red where weights are not looked at, or `newest` does not ask.
    """
    settings = Settings(data_dir=tmp_path)
    for position, weight in ((10, 1.0), (20, 2.0), (30, bad)):
        save(settings, position, weight)
    found = load_newest(settings, IDENTITY)
    assert found is not None
    assert found.cut.position == 20


def test_where_no_weights_are_numbers_learning_begins_anew(tmp_path, caplog):
    """Red where weights are not looked at."""
    settings = Settings(data_dir=tmp_path)
    save(settings, 10, float("nan"))
    assert load_newest(settings, IDENTITY) is None
    assert "learner.vectors holds numbers that are not finite" in caplog.text
    assert "learning begins anew at the start of the log" in caplog.text
