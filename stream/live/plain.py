"""The view as lines: for pipes, logs, and whoever prefers them."""

from stream.live.model import RECENT_SECONDS, SPEED_SECONDS, LiveState
from stream.live.panels import ARM_STYLES
from stream.live.words import clock, duration, printable, share, whole


def line(state: LiveState, now: float) -> str:
    """Say how it goes, in one line."""
    window, newest = state.window, state.window.newest
    if newest is None:
        return f"{clock(now - state.started)} waiting for the worker's metrics"
    p50, p99 = (window.quantile(lambda r: r.latency, q, RECENT_SECONDS) for q in (0.5, 0.99))
    arms = ", ".join(f"{arm} {share(state.hit_rate(arm))}" for arm in ARM_STYLES)
    parts = [
        f"{clock(now - state.started)} events/s {whole(window.rate(lambda r: sum(r.events.values()), SPEED_SECONDS))}",
        f"answered {whole(newest.answers)}",
        f"p50 {duration(p50)} p99 {duration(p99)}",
        f"hit rate at 20: {arms} ({share(state.share_of_best('live'), 0)} of the best reachable)",
        f"model v{newest.model_version:,}, items {whole(newest.vocabulary)}, users {whole(newest.users)}",
    ]
    if state.launch is not None and state.launch.seconds is not None:
        parts.append(
            f"launched {printable(state.launch.title)}: first recommended after {duration(state.launch.seconds)}"
        )
    if (silent := state.silent_for(now)) is not None:
        parts.append(f"the worker is silent for {silent:.0f} s")
    if state.trouble is not None:
        parts.append(printable(state.trouble))
    return "; ".join(parts)


def summary(state: LiveState, now: float) -> str:
    """Say what there was to see, when it is over."""
    newest = state.window.newest
    answers = 0.0 if newest is None else newest.answers
    # Each is there since another moment: after a short time two rates are of other events.
    arms = ", ".join(
        f"{arm} {share(rate)} of {whole(newest.scored[arm])}"
        for arm in ARM_STYLES
        if newest is not None and (rate := state.window.hit_rate(arm, None)) is not None
    )
    shown = f"; hit rate at 20, each since it was there: {arms}" if arms else ""
    return f"answered {whole(answers)} events in {clock(now - state.started)}{shown}"
