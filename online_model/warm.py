"""Compiles ahead of the first event: `python -m online_model.warm` after an installation, else in each new process."""

from dataclasses import replace

from online_model.config import ModelConfig
from online_model.learner import OnlineLearner
from online_model.protocol import Context, Example, Request
from online_model.serving import ServingModel

_N_ITEMS = 8


def warm_up(config: ModelConfig | None = None) -> None:
    """Teach and ask a throw-away learner, so that all compiled parts are loaded before somebody waits for them.

    The first time on a machine this compiles for some ten seconds; what comes out is kept beside the sources, or in the
    user's cache folder where these cannot be written.
    """
    tiny = replace(
        config or ModelConfig(), hidden=8, negatives=8, max_items=_N_ITEMS - 2, admit_after=1, neighbour_sittings=64
    )
    learner = OnlineLearner(tiny)
    for turn in range(2):
        batch = []
        # Half of them new the second time: others leave for them, and are forgotten.
        for item in range(turn * _N_ITEMS // 2, _N_ITEMS + turn * _N_ITEMS // 2):
            history = tuple((f"{other}", "view", other + turn) for other in range(item))
            batch.append(Example(Context(history, item // 4, 2 * _N_ITEMS), f"{item}"))
        learner.learn(batch)
    # Through a copy: whoever takes up what is saved, or starts to follow a learner, builds one.
    ServingModel(learner.update()).recommend([Request(batch[-1].context)], 2)


if __name__ == "__main__":
    warm_up()
