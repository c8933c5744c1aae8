"""`GET /recommendations/{user}` while events flow and the model learns: how many a second, and how long each takes."""

from collections.abc import Callable

from stream.benchmarks.asking import Asked, at_rate, flat_out, has_wrk, wrk
from stream.benchmarks.histograms import between
from stream.benchmarks.record import Measured, Rows, repeated
from stream.benchmarks.rig import Rig, rig
from stream.settings import Settings

BACKLOG = 10_000
WARM_UP_SECONDS = 3.0
DEADLINE_SECONDS = 120.0
RECOMMENDATIONS = "millstream_recommendations_total"


def measure(
    settings: Settings, rate: float, events: float, seconds: float, connections: int, repetitions: int
) -> Measured:
    """Measure both ways of asking so many times."""
    client = "wrk" if has_wrk() else "millstream's own client"
    parameters = {
        "rate": rate,
        "events": events,
        "seconds": seconds,
        "connections": connections,
        "flat out by": client,
    }
    runs = repeated("lookup", repetitions, lambda: once(settings, rate, events, seconds, connections))
    notes = [
        "Steady: each request is due at its time whether or not answers keep up, and its wait begins there. "
        f"Flat out: by {client}, each connection asks as soon as it has its answer. The client runs on the same cores.",
    ]
    return Measured("lookup", runs, parameters, notes=notes)


def once(settings: Settings, rate: float, events: float, seconds: float, connections: int) -> Rows:
    """Measure one worker."""
    with rig(settings) as at:
        at.produce("synthetic", "--rate", "max", "--events", str(BACKLOG))
        users = sorted({(message.key() or b"").decode() for message in at.read(at.settings.topics.events[0])})
        at.start_worker()
        at.until("millstream_learned_examples_total", BACKLOG, DEADLINE_SECONDS)
        with at.load(events):
            at.until(RECOMMENDATIONS, at.metrics()[RECOMMENDATIONS, ""] + events * WARM_UP_SECONDS, DEADLINE_SECONDS)
            at_rate(at.web, users, min(rate, 200), WARM_UP_SECONDS, connections)
            steady = _beside(at, lambda: at_rate(at.web, users, rate, seconds, connections))
            if has_wrk():
                fast = _beside(at, lambda: wrk(at.web, users, seconds, connections, at.folder))
            else:
                fast = _beside(at, lambda: flat_out(at.web, users, seconds, connections))
    return {f"steady, {rate:g}/s": steady, f"flat out, {connections} connections": fast}


def _beside(at: Rig, ask: Callable[[], Asked]) -> dict[str, float]:
    """Ask, and say what became of the events meanwhile."""
    import time

    usage, metrics, started = at.usage(), at.metrics(), time.monotonic()
    asked = ask()
    elapsed = time.monotonic() - started
    after = at.metrics()
    answers = between(metrics, after, "millstream_event_to_recommendation_seconds")
    return {
        **asked.figures(),
        "events_per_second": answers.n / elapsed,
        "event_p50_ms": answers.quantile(0.5) * 1000,
        "event_p99_ms": answers.quantile(0.99) * 1000,
        **at.usage().since(usage, elapsed),
    }
