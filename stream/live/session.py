"""The demo from its start to its end."""

import errno
import logging
import queue
import time
from contextlib import suppress

from rich.console import Console

from stream.live.children import ChildDied
from stream.live.facts import Fact, Launched
from stream.live.keys import Keys
from stream.live.model import LiveState
from stream.live.plain import summary
from stream.live.plan import DemoOptions, wish
from stream.live.screen import Lines, Progress, Screen, WholeScreen
from stream.live.signals import Interrupted, Interruptions
from stream.live.stage import Stage
from stream.settings import Settings

FRAME_SECONDS = 0.25
FAILED = 1
_COMMANDS = {"n": "launch", "t": "drift"}


def run_demo(settings: Settings, options: DemoOptions) -> int:
    """Run the demo.

    Args:
        settings: Of this process: which Kafka there is, if any.
        options: What the command line said.

    Returns:
        The exit code: 0 after Ctrl-C, `q` or the wanted time; 1 where something ended by itself, or nothing was
        answered; 128 and the number after another signal.

    Raises:
        StartupError: It cannot start; also `BrokerError` and `SettingsError`.
    """
    wanted = wish(options, settings)
    inbox: queue.SimpleQueue[Fact] = queue.SimpleQueue()
    stage = Stage(options, wanted, inbox.put, time.monotonic)
    logging.basicConfig(filename=stage.logs / "demo.log", format="%(asctime)s %(levelname)s %(name)s %(message)s")
    return Session(stage, inbox, options, Console()).run()


class Session:
    """One run: up, the view, down.

    Args:
        stage: What runs behind the view.
        inbox: Where the stage's facts arrive.
        options: What the command line said.
        console: Where people look.
    """

    def __init__(self, stage: Stage, inbox: "queue.SimpleQueue[Fact]", options: DemoOptions, console: Console) -> None:
        self._stage = stage
        self._inbox = inbox
        self._options = options
        self._console = console
        self._progress = Progress(console)
        self._state: LiveState | None = None
        self._followed: str | None = None

    def run(self) -> int:
        """Run it; see `run_demo`."""
        with Interruptions() as interruptions:
            try:
                code = self._run()
            except Interrupted:
                code = interruptions.exit_code
            except ChildDied as died:
                code = self._report(died)
            except SystemExit:
                # rich's answer to a closed pipe (`| head`): whoever read has seen enough. It prints no more then.
                code = 0
            except OSError as error:
                # The terminal is gone; SIGHUP may come a moment later than the error.
                if error.errno != errno.EIO:
                    raise
                code = interruptions.exit_code or FAILED
            finally:
                interruptions.end()
                self._end(interruptions)
            return code

    def _run(self) -> int:
        self._set_up()
        started = time.monotonic()
        self._state = state = LiveState(self._stage.surroundings(), started)
        is_whole = self._console.is_terminal and not self._options.plain
        screen: Screen = WholeScreen(self._console) if is_whole else Lines(self._console)
        with Keys() as keys, screen:
            self._watch(state, screen, keys)
        newest = state.window.newest
        if newest is not None and newest.answers > 0:
            return 0
        self._stage.keep_folder = True
        self._progress.say(f"nothing was answered; the logs: {self._stage.logs}")
        return FAILED

    def _set_up(self) -> None:
        began = time.monotonic()
        stage, progress = self._stage, self._progress
        progress.doing("Kafka: starting (the first time, it is fetched)")
        stage.start_broker(progress.say)
        progress.doing("worker: starting")
        stage.start_worker()
        progress.say(f"worker ready after {time.monotonic() - began:.1f} s; logs in {stage.logs}")
        progress.doing("shop: opening")
        stage.start_shop()
        if stage.rate < self._options.rate:
            progress.say(f"at {stage.rate:.0f} events a second: more would run over the embedded broker")
        progress.done()

    def _watch(self, state: LiveState, screen: Screen, keys: Keys) -> None:
        """Show what happens until somebody has seen enough."""
        ends = None if self._options.seconds is None else state.started + self._options.seconds
        while ends is None or time.monotonic() < ends:
            self._stage.check()
            self._take_facts(state)
            screen.draw(state, time.monotonic())
            for key in keys.wait(FRAME_SECONDS):
                if key == "q":
                    return
                self._obey(key, state)

    def _take_facts(self, state: LiveState) -> None:
        with suppress(queue.Empty):
            while True:
                fact = self._inbox.get_nowait()
                state.feed(fact, time.monotonic())
                if isinstance(fact, Launched):
                    self._stage.follower.watch(fact.item_id, fact.at_ms)
        state.tick(time.monotonic())
        if state.people.followed is not None and state.people.followed != self._followed:
            self._followed = state.people.followed
            self._stage.follower.follow(self._followed)

    def _obey(self, key: str, state: LiveState) -> None:
        if key == "u":
            state.people.follow_another()
        elif key in _COMMANDS:
            self._stage.command(_COMMANDS[key])

    def _report(self, died: ChildDied) -> int:
        self._stage.keep_folder = True
        self._progress.done()
        for line in died.tail:
            self._progress.say(f"  {line}")
        self._progress.say(f"millstream: {died}; its log: {died.log_path}")
        return FAILED

    def _end(self, interruptions: Interruptions) -> None:
        # Where nobody can be told any more, everything is ended all the same.
        with suppress(OSError, SystemExit):
            self._progress.done()
            if self._state is not None:
                self._progress.say(summary(self._state, time.monotonic()))
            self._progress.doing("ending")
        self._stage.end(interruptions.hurry)
        with suppress(OSError, SystemExit):
            self._progress.done()
