"""A soak: a broker, workers, steady traffic, one fault after the other, and at the end the checker."""

import random
import re
import shutil
import tempfile
import threading
import time
from pathlib import Path

import torch

from online_model import checkpoint
from online_model.guard import Guard
from online_model.ledger import OUTCOMES
from stream.brokers.apache import ApacheKafka
from stream.learning import Learning
from stream.topics.preflight import preflight
from stream.trainer import Trainer
from stream.trainer_checkpoints import Cut
from stream.trainer_messages import Facts
from tests.e2e.checker import audit, newest_checkpoint
from tests.e2e.workers import Application, Nursery, eventually
from tests.soak.faults import FAULTS, Impossible
from tests.soak.fleet import Fleet
from tests.soak.flow import Flow, Memory
from tests.soak.load import Load
from tests.soak.report import Done, Outcome

FLOW_SECONDS = 150
"""A worker that has failed often is started again after a minute, and a dead one's transaction stays open for ten s."""
SETTINGS = {
    "TRAINER__ISOLATION": "process",
    "TRAINER__BY": "count",  # two trainers of one log then agree bit for bit
    "TRAINER__CHECKPOINT_INTERVAL_SECONDS": "3",
    "MODEL__MAX_ITEMS": "2000",
    "SEQUENCE__MAX_USERS": "100000",
    "LOG_LEVEL": "INFO",
}


class Soak:
    """Everything that a fault may lay hands on."""

    def __init__(self, folder, nursery, broker, options):
        self.broker = broker
        self.dice = random.Random(options.seed)
        self.application = Application(broker.bootstrap, "soak", folder, nursery, more=SETTINGS).create_topics()
        self.checkpoints = self.application.data_dir("main") / "checkpoints"
        self.fleet = Fleet(self.application)
        self.load = Load(self.application, options.events_per_second, options.fuzzed_per_second, options.seed)
        self.flow = Flow(self.application)
        self.memory = Memory(self.fleet.pids)
        self.outcome = Outcome(options.seed, 0.0)
        self.named = [fault for name in options.only or () for fault in FAULTS if fault.__name__ == name]

    def run(self, minutes, say):
        """Do one fault after the other until the time is over, those that were named once at least; then check."""
        started = time.monotonic()
        self._start()
        deck, n_due = [], len(self.named)
        while n_due > 0 or time.monotonic() - started < minutes * 60:
            deck = deck or list(reversed(self.named)) or self.dice.sample(FAULTS, len(FAULTS))
            self._do(deck.pop(), started, say)
            n_due -= 1
            time.sleep(self.dice.uniform(1, 8))
        self._end(say)
        self.outcome.seconds = time.monotonic() - started
        return self.outcome

    def _start(self):
        self.fleet.start()
        self.load.start()
        self.flow.start()
        eventually(lambda: len(self.flow.answered) == self.application.partitions, self._why("the first answers"))
        self.memory.start()

    def _do(self, fault, started, say):
        done = Done(fault.__name__, time.monotonic() - started, None)
        self.outcome.done.append(done)
        try:
            fault(self)
        except Impossible as error:
            done.impossible = str(error)
            return
        except Exception as error:
            self.outcome.trouble.append(f"{fault.__name__} could not be done: {error!r}"[:2000])
        done.seconds = self.flow.until(self.load, FLOW_SECONDS)
        flows = "it does not flow" if done.seconds is None else f"flows after {done.seconds:.1f} s"
        say(f"{done.at:6.0f} s  {done.name:<22} {flows}")

    def _end(self, say):
        """Let what is under way come to its end, stop everything, and look at what is on the topics."""
        outcome, application = self.outcome, self.application
        say("the last events are sent")
        self.load.stop()
        say("the last events are worked off")
        application.until_done(300)
        self.memory.stop()
        say("the last checkpoint")
        self._until_saved()
        codes = self.fleet.stop()
        self.flow.stop()
        if any(codes):
            outcome.trouble.append(f"stops ended with {codes}")
        outcome.n_acknowledged, outcome.n_refused = len(self.load.acknowledged), self.load.n_refused
        outcome.n_fuzzed, outcome.client_ends = self.load.n_fuzzed, self.load.ends
        outcome.memory = self.memory.by_tenth()
        ended = re.findall(r"worker ended code=(-?\d+)", self.fleet.output())
        outcome.exits = [*self.fleet.exits, *(("main", int(code)) for code in ended)]
        say("the checker reads everything")
        outcome.report = audit(application, self.load.acknowledged)
        self._compare_weights()

    def _until_saved(self):
        """Wait until a checkpoint holds all but what does not fill a mini-batch."""

        def saved():
            before = self.application._learned_to()
            time.sleep(8)
            return self.application._learned_to() == before

        eventually(saved, "an end of learning", 300)

    def _compare_weights(self):
        """Let a trainer that nobody disturbs learn the same log from its start, and compare every bit."""
        ours = newest_checkpoint(self.application)
        n_learned, returns = self.outcome.report.counts["learned"], recorded_returns(ours)
        theirs = undisturbed(self.application, n_learned, returns)
        same = theirs is not None and same_bits(ours, theirs)
        whose = "bit for bit those" if same else "NOT those"
        told = f", told of the {len(returns)} returns of the guard" if returns else ""
        self.outcome.same_weights = f"{whose} of a trainer that nobody disturbed{told}, after {n_learned} examples"
        if not same:
            self.outcome.trouble.append("other weights than those of a trainer that nobody disturbed")

    def _why(self, what):
        return lambda: f"{what}:\n{self.fleet.output()[-3000:]}"

    def close(self):
        self.fleet.close()
        self.application.close()


def recorded_returns(found):
    """What the guard of a checkpoint remembers to have decided."""
    guard = Guard(max_returns=1)
    guard.load_state(found.states["guard"])
    return guard.returns


def undisturbed(application, n_learned, returns=()):
    """The checkpoint of a trainer that reads the examples from their start until it has learned so many.

    Not until a position: records that are known already may stand before it or after it, as they happened to be read.
    Its guard judges nothing, for when a trial begins, and with which checkpoint, depends on when one was written. It is
    told what was decided: what is left out, and where steps are shorter, follows from that and from the log alone. Nor
    is anything sampled out, by whomever: both trainers learn by count.
    """
    name, stop = "undisturbed", threading.Event()
    settings = application.settings_of(name)
    settings = settings.model_copy(update={"guard": settings.guard.model_copy(update={"enabled": False})})
    begin_with(settings, returns)
    trainer = Trainer(settings, preflight(application.settings).identity, name, lambda message: _until(message))

    def _until(message):
        if isinstance(message, Facts) and message.examples["learned"] >= n_learned:
            stop.set()

    timer = threading.Timer(600, stop.set)
    timer.start()
    # The one that was stopped stays a member of the trainers' group until its session ends.
    eventually(lambda: trainer.run(stop) == 0, "a trainer that may work")
    timer.cancel()
    return newest_checkpoint(application, application.data_dir(name))


def begin_with(settings, returns):
    """Leave a checkpoint of a trainer that has learned nothing, stands at the log's start, and knows these returns."""
    learning = Learning(settings, "undisturbed")
    learning.guard.returns, learning.guard.n_returns = returns, len(returns)
    begun = Cut(None, None, "undisturbed", 0, 0, time.time(), settings.app_id, "undisturbed", len(returns))
    checkpoint.save(settings.checkpoint_dir, learning.states(), begun.metadata(), keep=3)


def same_bits(ours, theirs):
    """Weights, optimizer, vocabulary, random state, copies, ledger."""
    if ours.states.keys() != theirs.states.keys():
        return False
    for name, state in ours.states.items():
        other = theirs.states[name]
        if state.tensors.keys() != other.tensors.keys():
            return False
        if not all(torch.equal(tensor, other.tensors[part]) for part, tensor in state.tensors.items()):
            return False
    return True


def soak(options, say):
    """Run one from start to end; gives what there is to tell. Logs and the broker's data stay where it has failed."""
    nursery, folder = Nursery(), Path(tempfile.mkdtemp(prefix="millstream-soak-"))
    with ApacheKafka(folder / "kafka") as broker:
        run = Soak(folder, nursery, broker, options)
        try:
            outcome = run.run(options.minutes, say)
        except Exception as error:
            outcome = run.outcome
            outcome.trouble.append(f"the soak itself has failed: {error!r}"[:6000])
        finally:
            run.close()
            nursery.close()
    if outcome.faults():
        outcome.kept = folder
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


assert set(OUTCOMES) == {"learned", "sampled_out", "quarantined", "duplicate"}, "the report names each outcome"
