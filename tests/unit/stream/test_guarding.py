import pytest
import torch

from online_model import checkpoint
from online_model.guard import Observed, Suspicion
from stream.guarding import Guarding
from stream.identity import Identity
from stream.learning import Learning, MiniBatch
from stream.records import TrainingExample, encode_example
from stream.settings import Settings
from stream.trainer_checkpoints import Cut, earlier, forget_position

IDENTITY = Identity("cluster", {})
BATCH = 8


def record(n, **changes):
    facts = {
        "topic": "tag",
        "partition": 0,
        "offset": n,
        "time": 1_700_000_000_000 + n,
        "logged_at": 0,
        "user": f"u{n}",
        "behavior": "view",
        "role": "interest",
        "history": [(f"i{n % 9}", "view", 0)],
        "sitting": 0,
        "item": f"i{n * 4 % 9}",
        "scored": True,
    }
    return encode_example(TrainingExample(**facts | changes))


class Course:
    """A trainer without a log: learns mini-batches of eight, and cuts a checkpoint when told."""

    def __init__(self, folder, **guard):
        self.settings = Settings(
            data_dir=folder,
            model={"hidden": 4, "negatives": 8, "batch_size": BATCH, "device": "cpu"},
            measure={"sample": 1.0, "frozen_after": 10_000},
            guard=guard,
        )
        self.position = 0
        self.become(Learning(self.settings, "run"))

    def become(self, learning):
        self.learning = learning
        self.guarding = Guarding(self.settings, IDENTITY, learning)

    def learn(self, n_batches):
        for _ in range(n_batches):
            batch = MiniBatch()
            for n in range(self.position, self.position + BATCH):
                leave_out = self.learning.guard.leaves_out(n)
                batch.take(n, record(n), self.learning.ledger, leave_out=leave_out)
            self.learning.learn(batch)
            self.position += BATCH

    def save(self, cut=None, states=None):
        guard = self.learning.guard
        cut = cut or Cut(self.position, IDENTITY, "run", 0, 0, 0.0, "app", "one", guard.n_returns)
        folder, pinned = self.settings.checkpoint_dir, self.guarding.pinned
        return checkpoint.save(folder, states or self.learning.states(), cut.metadata(), keep=3, pinned=pinned)

    def suspect(self, since):
        self.learning.guard.suspicion = Suspicion("hit-rate", since)

    def come_under_suspicion(self):
        """Let a third mini-batch look harmful, after a checkpoint of two, and open the trial; gives the checkpoint."""
        self.learn(2)
        reference = self.save()
        self.learn(1)
        self.suspect(self.position)
        self.guarding.attend()
        return reference

    def return_(self):
        """Let the trial that was opened find harm, and go back."""
        self.learning.guard.trial.compare([False] * 200, [True] * 200)
        sentence = self.guarding.attend()
        self.save(sentence.cut, sentence.states)
        learning = Learning(self.settings, "again")
        learning.load_states(sentence.states)
        self.become(learning)
        self.position = sentence.cut.position
        return sentence


@pytest.fixture
def course(tmp_path):
    return Course(tmp_path)


def test_the_newest_checkpoint_from_before_the_fall_is_tried(course):
    names = []
    for _ in range(3):
        course.learn(2)
        names.append(course.save().name)
    course.suspect(2 * BATCH * 2 + 3)
    assert course.guarding.attend() is None
    assert course.learning.guard.trial.reference == names[1]
    assert course.learning.reference.version == 4
    assert course.guarding.pinned == {names[1]}


def test_a_long_suspicion_tries_the_oldest(course):
    for _ in range(3):
        course.learn(1)
        course.save()
    course.suspect(None)
    course.guarding.attend()
    assert course.learning.guard.trial.reference == checkpoint.paths(course.settings.checkpoint_dir)[0].name


@pytest.mark.parametrize("since", [3, 10**6])
def test_without_a_checkpoint_to_go_back_to_learning_goes_on(course, since):
    course.learn(2)
    if since == 3:
        course.save()  # it stands behind the fall
    course.suspect(since)
    assert course.guarding.attend() is None
    assert course.learning.guard.trial is None
    assert course.learning.guard.suspicion is None


def test_a_torn_checkpoint_is_no_reference(course):
    course.learn(1)
    whole = course.save()
    course.learn(1)
    torn = course.save()
    (torn / "manifest.json").write_text("{")
    course.suspect(10**6)
    course.guarding.attend()
    assert course.learning.guard.trial.reference == whole.name


def test_the_reference_answers_the_events_of_the_trial_and_is_acquitted_or_not(course):
    course.come_under_suspicion()
    course.learn(3)
    trial = course.learning.guard.trial
    assert trial.both + trial.live_only + trial.other_only > 0
    trial.compare([True] * 200, [False] * 200)
    assert course.guarding.attend() is None
    assert course.learning.guard.trial is None
    assert course.learning.reference is None


def test_a_return_takes_up_the_checkpoint_and_quarantines_what_its_trial_saw(course):
    """Let `MiniBatch.take` learn what is to be left out, or `Guard.after` forget what that is: it was seen red."""
    course.learn(2)
    course.save()
    before = course.learning.states()
    course.learn(1)
    course.suspect(course.position)
    course.guarding.attend()
    course.learn(3)
    sentence = course.return_()
    assert (sentence.decided.start, sentence.decided.end) == (3 * BATCH, 6 * BATCH)
    assert course.position == 2 * BATCH
    for name, tensor in before["learner"].tensors.items():
        assert torch.equal(course.learning.learner.state().tensors[name], tensor), name
    course.learn(6)
    counts = course.learning.ledger.counts
    assert counts == {"learned": 5 * BATCH, "sampled_out": 0, "quarantined": 3 * BATCH, "duplicate": 0}
    assert course.learning.learner.pace == 0.5


def test_a_checkpoint_torn_in_its_own_trial_is_not_gone_back_to(course):
    """Red where the sentence believes that what was compared with can still be read: the trainer would end."""
    reference = course.come_under_suspicion()
    (reference / "manifest.json").write_text("{")
    course.learning.guard.trial.compare([False] * 200, [True] * 200)
    assert course.guarding.attend() is None
    assert course.learning.guard.trial is None
    assert course.learning.reference is None


def test_weights_that_broke_without_a_record_are_not_gone_back_from(course):
    """Red where an empty range is left out: the same weights would break again, and again be gone back from."""
    course.learn(1)
    course.save()
    assert course.guarding.escape(course.position, course.position) is None
    assert course.guarding.escape(course.position, course.position + 1) is not None


def test_a_way_that_was_left_is_not_gone_back_to(course):
    """Let `earlier` return what stands on a way that was left: it was seen red."""
    course.learn(1)
    kept = course.save()
    course.learn(1)
    course.suspect(course.position)
    course.guarding.attend()
    course.learn(1)
    left = course.save()
    course.return_()
    course.learn(5)
    course.save()
    guard = course.learning.guard
    found = earlier(course.settings.checkpoint_dir, IDENTITY, {1: guard.returns[0].reference})
    names = [each.path.name for each in found]
    assert left.name not in names
    assert kept.name in names or len(checkpoint.paths(course.settings.checkpoint_dir)) <= 3
    assert len(names) == len(checkpoint.paths(course.settings.checkpoint_dir)) - left.is_dir()


def test_checkpoints_of_another_cluster_are_none(course):
    course.learn(1)
    course.save()
    assert earlier(course.settings.checkpoint_dir, Identity("elsewhere", {}), {}) == []


def test_a_trial_goes_on_after_a_restart_and_ends_where_its_checkpoint_is_gone(course):
    course.learn(1)
    reference = course.save()
    course.suspect(course.position)
    course.guarding.attend()
    states = course.learning.states()
    for gone in (False, True):
        if gone:
            (reference / "manifest.json").unlink()
        learning = Learning(course.settings, "again")
        learning.load_states(states)
        course.become(learning)
        course.guarding.resume()
        assert (learning.guard.trial is None) == gone
        assert (learning.reference is None) == gone


def test_offsets_that_are_forgotten_are_no_longer_left_out(course):
    """Keep the guard's state in `forget_position`, and records of a topic made anew are left out: it was seen red."""
    course.learn(1)
    course.save()
    course.learn(1)
    course.suspect(course.position)
    course.guarding.attend()
    course.learn(1)
    course.return_()
    assert forget_position(course.settings, "one", 1.0)
    found = checkpoint.newest(course.settings.checkpoint_dir).checkpoint
    learning = Learning(course.settings, "anew")
    learning.load_states(found.states)
    assert not any(map(learning.guard.leaves_out, range(100)))
    assert Cut.of(found.metadata).n_returns == learning.guard.n_returns == 0
    assert learning.ledger.counts == course.learning.ledger.counts


def test_switched_off_it_watches_nothing_and_still_leaves_out_what_was_decided(tmp_path):
    """Red where `attend` or `escape` does not ask whether it is on."""
    course = Course(tmp_path, enabled=False)
    course.learn(1)
    course.save()
    course.suspect(10**6)
    assert course.guarding.attend() is None
    assert course.learning.guard.trial is None
    assert course.guarding.escape(BATCH, 2 * BATCH) is None
    assert course.learning.guard.position == 0


def test_broken_weights_go_back_without_a_trial_and_not_for_ever(course):
    course.learn(1)
    course.save()
    for number in range(3):
        sentence = course.guarding.escape(course.position, course.position + number + 1)
        course.save(sentence.cut, sentence.states)
        course.learning.load_states(sentence.states)
    assert course.learning.guard.n_returns == 3
    assert course.learning.guard.exhausted
    assert course.guarding.escape(course.position, course.position + 9) is None
    course.learning.guard.observe(Observed(50_000, 50_008))
    assert course.guarding.escape(50_000, 50_008) is not None
