"""The offline rival: the same model trained anew on all that came before, again and again, and frozen in between."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from online_model.evaluation.metrics import N_PARTS
from online_model.evaluation.sequences import Step
from online_model.protocol import Example, Learner, LearnReport, Ranked, Request


class Retrained:
    """A model that is built and trained from nothing before each tenth of a stream, and answers for that tenth.

    It learns nothing between; what is new since its training it does not know. Before the first tenth there is
    nothing to train on, so that all of it is missed. Training goes through everything before the tenth, in the order
    of the stream and in the same mini-batches as live learning, several times over. A tenth begins with the first
    mini-batch that starts in it.

    Args:
        build: Returns an empty learner.
        read: Returns the stream from its beginning, any number of times.
        n_events: Events in the stream.
        batch_size: Events in a mini-batch.
        epochs: Times that a training goes through its events.
        on_training: Told for each mini-batch of a training how many events it was.
    """

    def __init__(
        self,
        build: Callable[[], Learner],
        read: Callable[[], Iterable[Step]],
        n_events: int,
        *,
        batch_size: int,
        epochs: int = 3,
        on_training: Callable[[int], None] = lambda n_events: None,
    ) -> None:
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1, not {epochs}")
        self._build = build
        self._read = read
        self._n_events = n_events
        self._batch_size = batch_size
        self._epochs = epochs
        self._on_training = on_training
        self._model: Learner | None = None
        self._n_watched = 0
        self._part = 0

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranked]:
        """Answer with what the latest training knew; nothing before the first."""
        if self._model is None:
            return [Ranked([], [], [], 0) for _ in requests]
        return self._model.recommend(requests, k)

    def rank(self, requests: Sequence[Request], targets: Sequence[str]) -> list[int]:
        """Rank with what the latest training knew; all 0 before the first."""
        return [0] * len(requests) if self._model is None else self._model.rank(requests, targets)

    def learn(self, examples: Sequence[Example]) -> LearnReport:
        """Learn nothing of a mini-batch; where it was the last before a tenth, train on everything so far."""
        self._n_watched += len(examples)
        part = self._n_watched * N_PARTS // self._n_events
        if self._part < part < N_PARTS:
            self._part = part
            self._model = self._train()
        return LearnReport(len(examples), 0, None, 0, 0)

    def _train(self) -> Learner:
        model = self._build()
        for _ in range(self._epochs):
            steps = islice(self._read(), self._n_watched)
            while examples := [step.example for step in islice(steps, self._batch_size)]:
                model.learn(examples)
                self._on_training(len(examples))
        return model
