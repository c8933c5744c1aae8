"""Every query of the dashboard and every rule, asked of a real Prometheus that scrapes what `Metrics` exposes."""

import json
import math
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prometheus_client import CollectorRegistry

from monitoring.dashboards.board import DASHBOARD_PATH
from monitoring.dashboards.promql import Z_95, advantage, brier, brier_of_share, calibration_error, grown
from monitoring.metrics import CONTENT_TYPE, Metrics
from monitoring.query_check import check_queries, check_rules, fill_in
from online_model.evaluation.tally import ARMS, ORIGINS, RIVALS
from online_model.protocol import Forecasts, LearnReport

StartPrometheus = Callable[[str], str]
DASHBOARD = json.loads(DASHBOARD_PATH.read_text(encoding="utf-8"))
PAIRS = {"both": 20, "live_only": 30, "other_only": 10, "neither": 40}
LOST_BEFORE_THE_FIRST_SCRAPE = 500
STATED = Forecasts([60, 0, 30, 0, 0, 10], [0.1, 0.0, 0.6, 0.0, 0.0, 7.0], [1, 0, 0, 0, 0, 5], squared_error=4.0)


class Worker:
    """Serves a registry that moves with each scrape, as a working process' does."""

    def __init__(self) -> None:
        self.metrics = Metrics(CollectorRegistry())
        self.metrics.ready.set(1)
        self.metrics.users.set(1000)
        self.metrics.count_expired("user-events", LOST_BEFORE_THE_FIRST_SCRAPE)
        self.totals: dict[str, Counter[tuple[str, ...]]] = {
            name: Counter() for name in ("scored", "hits", "reciprocal_rank", "pairs", "unscored", "late_lists")
        }

    def work(self) -> None:
        metrics = self.metrics
        metrics.count_events("accepted", 100)
        metrics.count_rejected("not-json", 2)
        metrics.observe_lag("user-events", 3)
        metrics.observe_update(model_version=7, freshness_seconds=0.3)
        report = LearnReport(n_examples=64, n_targets=60, loss=5.1, n_new_items=1, n_items=900, forecasts=STATED)
        metrics.observe_step(report, 0.02)
        for stage in ("decode", "score", "publish", "transaction"):
            metrics.observe_stage(stage, 0.004)
        for n in range(100):
            metrics.observe_answer(0.005 + n * 0.0002)
        metrics.count_lists(95, 5)
        metrics.observe_lag_seconds("user-events", 0.004)
        self._measure()

    def _measure(self) -> None:
        for arm in ARMS:
            for origin in ORIGINS:
                self.totals["scored"][arm, origin] += 100
                self.totals["hits"][arm, origin] += 30
                self.totals["reciprocal_rank"][arm, origin] += 12
        for rival in RIVALS:
            for outcome, n in PAIRS.items():
                self.totals["pairs"][rival, outcome] += n
        self.totals["unscored"]["first",] += 20
        self.totals["late_lists"][()] += 1
        self.metrics.observe_measure(self.totals)


@pytest.fixture(scope="module")
def worker_address() -> Iterator[str]:
    worker = Worker()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            worker.work()
            body = worker.metrics.exposition()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Scrapes are no news."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def prometheus_url(worker_address: str, prometheus: StartPrometheus) -> str:
    url = prometheus(worker_address)
    wait_until(lambda: ask(url, "sum(count_over_time(millstream_ready[1m])) >= 10") != [])
    return url


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def ask(url: str, expr: str, at: float | None = None) -> list[float]:
    parameters = {"query": expr, **({"time": str(at)} if at else {})}
    with urllib.request.urlopen(f"{url}/api/v1/query?{urllib.parse.urlencode(parameters)}", timeout=10) as response:
        return [float(series["value"][1]) for series in json.load(response)["data"]["result"]]


def test_every_panel_and_every_rule_has_an_answer(prometheus_url: str) -> None:
    assert check_queries(prometheus_url, DASHBOARD) == []
    wait_until(lambda: not check_rules(prometheus_url))


def test_a_query_that_is_wrong_or_stays_empty_is_told(prometheus_url: str) -> None:
    exprs = ["sum(millstream_ready", "millstream_no_such_metric", "millstream_ready / 0 * 0", "millstream_ready"]
    dashboard = {"panels": [{"title": f"panel {n}", "targets": [{"expr": expr}]} for n, expr in enumerate(exprs)]}
    problems = check_queries(prometheus_url, dashboard)
    assert [problem.split(":")[0] for problem in problems] == ["panel 0", "panel 1", "panel 2"]


def test_the_headline_is_the_paired_difference_and_its_interval(prometheus_url: str) -> None:
    at = time.time()
    mean, low, high = (
        ask(prometheus_url, fill_in(advantage("nightly", "$__range", bound=bound)), at)[0] for bound in (0, -1, 1)
    )
    n = ask(prometheus_url, 'sum(increase(millstream_prequential_pairs_total{against="nightly"}[1m]))', at)[0]
    share = {outcome: count / sum(PAIRS.values()) for outcome, count in PAIRS.items()}
    expected = share["live_only"] - share["other_only"]
    deviation = math.sqrt((share["live_only"] + share["other_only"] - expected**2) / n)
    assert mean == pytest.approx(100 * expected)
    assert low == pytest.approx(100 * (expected - Z_95 * deviation))
    assert high == pytest.approx(100 * (expected + Z_95 * deviation))


def test_what_probabilities_are_worth_is_asked_of_all_bins(prometheus_url: str) -> None:
    at = time.time()
    found = [ask(prometheus_url, fill_in(of("$__range")), at) for of in (calibration_error, brier, brier_of_share)]
    assert found == [
        [pytest.approx((0.9 + 0.6 + 2.0) / 100)],
        [pytest.approx(4.0 / 100)],
        [pytest.approx(0.06 * 0.94)],
    ]


def test_events_lost_before_the_first_scrape_are_seen(prometheus_url: str) -> None:
    lost = fill_in(grown("expired_total", "$__range", topic="user-events"))
    assert ask(prometheus_url, lost) == [LOST_BEFORE_THE_FIRST_SCRAPE]
    wait_until(lambda: bool(ask(prometheus_url, 'ALERTS{alertname="MillstreamEventsExpired",alertstate="firing"}')))


def test_counters_and_exact_totals_are_both_scraped(prometheus_url: str) -> None:
    at = time.time()
    total = ask(prometheus_url, 'millstream_prequential_scored{arm="live",origin="organic"}', at)
    counter = ask(prometheus_url, 'millstream_prequential_scored_total{arm="live",origin="organic"}', at)
    assert total == counter != []
