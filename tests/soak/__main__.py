"""`python -m tests.soak`, what `make soak` runs: half an hour of faults, and a page about what they did."""

import argparse
import faulthandler
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path

from tests.soak.faults import FAULTS
from tests.soak.report import page
from tests.soak.soak import soak

GRACE_MINUTES = 15


def options():
    """What the environment and the command line ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("SOAK_MINUTES", "30")))
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SOAK_SEED", "0")) or None)
    parser.add_argument("--events-per-second", type=float, default=60.0)
    # A million in half an hour.
    parser.add_argument("--fuzzed-per-second", type=float, default=560.0)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[fault.__name__ for fault in FAULTS],
        default=os.environ.get("SOAK_FAULTS", "").replace(",", " ").split() or None,
        help="these faults alone, in this order, each once at least",
    )
    parser.add_argument("--report", type=Path, help="write the page to this file too")
    chosen = parser.parse_args()
    if unknown := set(chosen.only or ()) - {fault.__name__ for fault in FAULTS}:  # defaults are not compared
        parser.error(f"no such faults: {', '.join(sorted(unknown))}")
    chosen.seed = chosen.seed or random.SystemRandom().randrange(1, 10**6)
    return chosen


def out_of_time(number, _):
    """Whatever hangs, or whoever stops it: a soak ends, and leaves nothing behind."""
    raise TimeoutError(f"told to stop by {signal.Signals(number).name}; it hangs when that is SIGALRM")


def main():
    """Run a soak.

    Returns:
        0 when nothing was lost, applied or learned twice, and it flowed again after every fault; else 1.
    """
    chosen = options()
    faulthandler.enable()  # a client that aborts the process is seen with its call
    faulthandler.register(signal.SIGUSR1)  # where it is just now
    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, out_of_time)
    signal.alarm(int((chosen.minutes + GRACE_MINUTES) * 60))
    say = partial(print, flush=True)
    say(f"soak: {chosen.minutes:g} minutes, seed {chosen.seed} (SOAK_SEED={chosen.seed} draws the same faults)")
    started = time.monotonic()
    outcome = soak(chosen, say)
    outcome.seconds = outcome.seconds or time.monotonic() - started
    text = page(outcome)
    say(f"\n{text}")
    if chosen.report:
        chosen.report.write_text(text + "\n")
    return 1 if outcome.faults() else 0


if __name__ == "__main__":
    sys.exit(main())
