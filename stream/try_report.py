"""What `millstream try` says: what it guessed, what it did, and in one sentence what live learning is worth."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from online_model.evaluation.guess import Guess
from online_model.evaluation.metrics import Accuracy
from online_model.evaluation.recent import Recent
from online_model.evaluation.trial import FROZEN_AT, TRIAL_ARMS, TrialArm, TrialOutcome, TrialPlan

_MOST_NAMED = 5
_CANNOT_TELL = "too near to live to tell them apart"


@dataclass(frozen=True, slots=True)
class TryReport:
    """A stream that was tried, or is about to be.

    Attributes:
        path: The file.
        guess: How it is read.
        recent: What was read.
        gap_ms: The pause that ends a sitting; None for none.
        plan: When copies are taken, and who is measured.
    """

    path: str
    guess: Guess
    recent: Recent
    gap_ms: int | None
    plan: TrialPlan

    def preamble(self) -> list[str]:
        """Return what was guessed and what will be done, in a few lines."""
        return [self._columns(), self._events(), self._course()]

    def warnings(self) -> Iterator[str]:
        """Yield what was left out or taken for something else."""
        if self.recent.unknown:
            names = list(self.recent.unknown)
            more = ", ..." if len(names) > _MOST_NAMED else ""
            yield f"behaviours that are not known count as views: {', '.join(names[:_MOST_NAMED])}{more}"
        bad = self.recent.bad
        if bad.count:
            yield f"skipped {bad.count:,} lines that are no events, such as {bad.first[0]}"

    def _columns(self) -> str:
        columns = self.guess.columns
        behavior = f"behaviour = {columns['behavior']}" if "behavior" in columns else "every event is a view"
        ignored = f"; not used: {', '.join(self.guess.ignored)}" if self.guess.ignored else ""
        return (
            f"{self.path}: user = {columns['user_id']}, item = {columns['item_id']}, {behavior}, "
            f"time = {columns['timestamp']} ({self.guess.time}){ignored} "
            "(otherwise: --map COLUMN=FIELD, --key COLUMN, --time-unit)"
        )

    def _events(self) -> str:
        taken, there = len(self.recent.events), self.recent.n_events
        text = f"{there:,} events"
        if self.recent.n_disordered:
            text += f", {self.recent.n_disordered:,} of them out of the order of time: sorted"
        if taken < there:
            text += f"; the most recent {taken:,} are taken, {there - taken:,} older ones left out (--limit)"
        if self.gap_ms is not None:
            return f"{text}; a pause over {self.gap_ms / 60_000:g} minutes ends a sitting (--session-gap)"
        return f"{text}; no pause ends a sitting, for most are longer than the usual one (--session-gap)"

    def _course(self) -> str:
        refreshed = "every 24 hours of event time"
        if self.plan.refresh_events is not None:
            refreshed = "every tenth of the stream, which is shorter than three days"
        text = f"one copy of the model is refreshed {refreshed}, one frozen at {FROZEN_AT:.0%}"
        if self.plan.sample < 1:
            text += f"; all events are learned, those of {self.plan.sample:.0%} of users measured, the same for all"
        return text

    def names(self) -> Mapping[TrialArm, str]:
        """Return what each arm is called."""
        refreshed = "refreshed nightly" if self.plan.refresh_events is None else "refreshed every tenth"
        return {
            "live": "live",
            "nightly": refreshed,
            "frozen": "frozen",
            "markov": "Markov",
            "popularity": "popularity",
        }

    def sentence(self, outcome: TrialOutcome) -> str:
        """Return what came of it; there must be compared events."""
        recalls = {arm: outcome.compared[arm].recall or 0.0 for arm in TRIAL_ARMS}
        names = self.names()
        shown = _shares(recalls)
        interval = outcome.difference
        unsure = f" ({_CANNOT_TELL})" if interval is not None and interval.low <= 0 <= interval.high else ""
        rivals = ", ".join(
            f"{names[arm]} {shown[arm]}{unsure if arm == 'nightly' else ''}" for arm in TRIAL_ARMS if arm != "live"
        )
        return (
            f"on your stream the next item is in the top 20 for {shown['live']}; {rivals}; "
            f"{_rounded(outcome.events_per_second):,} events a second on this machine"
        )

    def figures(self, outcome: TrialOutcome, model: str, settings: Mapping[str, object]) -> dict[str, object]:
        """Return everything as one JSON object."""
        return {
            "sentence": self.sentence(outcome),
            "file": self.path,
            "events_in_file": self.recent.n_events,
            "events": len(self.recent.events),
            "disordered": self.recent.n_disordered,
            "skipped_lines": self.recent.bad.count,
            "columns": dict(self.guess.columns),
            "time": asdict(self.guess.time),
            "session_gap": None if self.gap_ms is None else self.gap_ms / 1000,
            "plan": asdict(self.plan),
            "compared_from": outcome.compared_from,
            "scored": outcome.compared["live"].scored,
            "compared": {arm: _figures(outcome.compared[arm]) for arm in TRIAL_ARMS},
            "whole": {arm: _course(outcome.courses[arm]) for arm in TRIAL_ARMS},
            "live_minus_nightly": None if outcome.difference is None else asdict(outcome.difference),
            "events_per_second": round(outcome.events_per_second),
            "seconds": round(outcome.seconds, 3),
            "model": model,
            "settings": dict(settings),
        }


def _figures(accuracy: Accuracy) -> dict[str, object]:
    return {"recall": accuracy.recall, "mrr": accuracy.mrr}


def _course(accuracy: Accuracy) -> dict[str, object]:
    return {
        "scored": accuracy.scored,
        **_figures(accuracy),
        "recall_tenths": accuracy.recall_tenths,
        "mrr_tenths": accuracy.mrr_tenths,
    }


def _shares(recalls: Mapping[TrialArm, float]) -> dict[TrialArm, str]:
    """Whole percents, or tenths of them where those would hide who is better than live."""
    whole = {arm: f"{recall:.0%}" for arm, recall in recalls.items()}
    hides = any(whole[arm] == whole["live"] and recalls[arm] != recalls["live"] for arm in whole if arm != "live")
    return {arm: f"{recall:.1%}" for arm, recall in recalls.items()} if hides else whole


def _rounded(rate: float) -> int:
    """Two figures are what another run would give again."""
    return int(float(f"{rate:.2g}"))
