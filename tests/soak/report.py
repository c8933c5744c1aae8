"""The page that a soak ends with."""

from collections import Counter
from dataclasses import dataclass, field
from statistics import median

from tests.e2e.checker import LOST, NEVER, NO_EVENT, TWICE, WRONG_STATE


@dataclass
class Done:
    """One fault: what it was, and the seconds from its end until every partition answered again; None: they did not."""

    name: str
    at: float
    seconds: float | None
    impossible: str | None = None


@dataclass
class Outcome:
    """Everything that a soak has to tell."""

    seed: int
    seconds: float
    done: list = field(default_factory=list)
    exits: list = field(default_factory=list)
    n_acknowledged: int = 0
    n_refused: int = 0
    n_fuzzed: int = 0
    client_ends: list = field(default_factory=list)
    memory: list = field(default_factory=list)
    report: object = None
    same_weights: str = "not compared"
    trouble: list = field(default_factory=list)
    kept: object = None

    def faults(self):
        """Why the soak has failed, a line each; none when nothing was lost."""
        stuck = [f"no answers after {done.name}" for done in self.done if not done.impossible and done.seconds is None]
        return [*self.trouble, *stuck, *(self.report.faults() if self.report else ["nothing was checked"])]


def page(outcome):
    """Write it out.

    >>> print(page(Outcome(seed=7, seconds=60.0)).splitlines()[0])
    soak: seed 7, 60 s, 0 faults, FAILED
    """
    faults = outcome.faults()
    n_done = sum(done.impossible is None for done in outcome.done)
    lines = [
        f"soak: seed {outcome.seed}, {outcome.seconds:.0f} s, {n_done} faults, {'FAILED' if faults else 'passed'}",
        *_events(outcome),
        *_found(outcome),
        *_faults(outcome),
        f"memory of all workers by tenth of the run, MiB: {' '.join(f'{mib:.0f}' for mib in outcome.memory)}",
        f"worker ends that nobody asked for: {_ends(outcome.exits)}",
        *(f"FAULT {line}" for line in faults),
        *([f"logs and the broker's data: {outcome.kept}"] if outcome.kept else []),
    ]
    return "\n".join(lines)


def _events(outcome):
    yield (
        f"events: {outcome.n_acknowledged} acknowledged, {outcome.n_fuzzed} fuzzed among them, "
        f"{outcome.n_refused} not taken by the broker"
    )
    if outcome.client_ends:
        yield f"producers of the load that ended and were replaced: {', '.join(outcome.client_ends)}"
    if outcome.report:
        outcomes = Counter(outcome.report.expected.outcomes.values())
        yield "outcomes: " + ", ".join(f"{name} {n}" for name, n in sorted(outcomes.items()))


def _found(outcome):
    if not (report := outcome.report):
        return
    for kind in (LOST, WRONG_STATE, TWICE, NEVER, NO_EVENT):
        yield f"  {kind:<34} {len(report.findings.get(kind, ())):>9}"
    for kind, n in (("lists", report.duplicate_lists), ("examples", report.duplicate_examples)):
        yield f"  {kind + ' that stand twice':<34} {n:>9}"
    yield f"  {'examples passed over as known':<34} {report.counts['duplicate']:>9}"
    yield f"  {'examples learned':<34} {report.counts['learned']:>9}"
    yield f"  {'examples set aside':<34} {report.counts['quarantined']:>9}"
    yield f"  weights: {outcome.same_weights}"


def _faults(outcome):
    yield f"{'fault':<22} {'times':>5}   seconds until every partition answers again: median, worst"
    for name in sorted({done.name for done in outcome.done}):
        rounds = [done for done in outcome.done if done.name == name]
        seconds = [done.seconds for done in rounds if done.seconds is not None]
        times = f"{median(seconds):6.1f} {max(seconds):6.1f}" if seconds else ""
        why = {done.impossible for done in rounds if done.impossible}
        skipped = f"   not done {sum(done.impossible is not None for done in rounds)}x: {'; '.join(sorted(why))}"
        yield f"{name:<22} {sum(done.impossible is None for done in rounds):>5}   {times}{skipped if why else ''}"


def _ends(exits):
    return ", ".join(f"{n}x {name} {how}" for (name, how), n in sorted(Counter(exits).items())) or "none"
