"""Ten times what a worker can answer and learn: it gives way as promised, loses nothing, and is itself again after."""

import itertools
import random
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.checker import check
from tests.e2e.workers import eventually

RULES = Path(__file__).parents[2] / "monitoring/alerts/millstream.rules.yml"
# Two events a batch and one example a step: a few hundred events a second are ten times too many.
SLOW = {
    "INTAKE__MAX_BATCH": "2",
    "MODEL__BATCH_SIZE": "1",
    "MODEL__NEGATIVES": "1024",
    "OVERLOAD__GROW_AFTER_SECONDS": "0.3",
    "OVERLOAD__COALESCE_AFTER_SECONDS": "0.6",
    "OVERLOAD__BATCH_DEADLINE_MS": "200",
    "OVERLOAD__LARGER_STEPS_AFTER_SECONDS": "0.4",
    "OVERLOAD__SAMPLE_AFTER_SECONDS": "0.6",
}
ALERTS = {"MillstreamOverloaded": "answers", "MillstreamLearningOverloaded": "learning"}
OVERLOAD_SECONDS = 3
AT_MOST_SECONDS = 60


def now_events(seed=1, users=12, items=200):
    """Yield events of this very moment, without end."""
    dice = random.Random(seed)
    while True:
        yield {
            "user_id": f"u{dice.randrange(users)}",
            "item_id": f"i{dice.randrange(items)}",
            "behavior": "view",
            "timestamp": time.time_ns() // 1_000_000,
        }


class Gauges:
    """What the worker says of its overload, looked at again and again."""

    def __init__(self, worker):
        self.worker = worker
        self.seen = []

    def look(self):
        """Read the metrics; by name, or by name and the value of the one label."""
        with urllib.request.urlopen(f"http://{self.worker.address}/metrics", timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        now = {
            (sample.name, *sample.labels.values()): sample.value
            for family in families
            for sample in family.samples
            if len(sample.labels) <= 1
        }
        self.seen.append(now)
        return now

    def level(self, part):
        return self.look()["millstream_overload_level", part]

    def highest(self, part):
        return max(seen["millstream_overload_level", part] for seen in self.seen)

    def is_calm(self):
        now = self.look()
        lags = [now["millstream_lag_seconds", topic] for topic in ("user-events", "training-examples")]
        return lags == [0, 0] and all(now["millstream_overload_level", part] == 0 for part in ALERTS.values())


def start_live(application, **settings):
    """Start a worker that has caught up: an overload is one of live events."""
    worker = application.start(**SLOW, **settings).until_ready()
    eventually(lambda: "caught up" in worker.output, lambda: f"caught up:\n{worker.output}")
    return worker


def capacity(application):
    """Events a second that the worker answers one batch after the other."""
    started = time.monotonic()
    application.produce(itertools.islice(now_events(seed=0), 200))
    application.until_done()
    return 200 / (time.monotonic() - started)


def overload(application, gauges, seconds=OVERLOAD_SECONDS):
    """Send ten times the capacity for some seconds, and until everything that may give way does."""
    rate = 10 * capacity(application)
    events, started, n_sent = now_events(), time.monotonic(), 0
    while True:
        passed = time.monotonic() - started
        due = int(passed * rate) - n_sent
        application.produce(itertools.islice(events, due))
        n_sent += due
        now = gauges.look()
        gave_way = gauges.highest("answers") == gauges.highest("learning") == 2
        if passed > seconds and gave_way and now["millstream_examples_total", "sampled_out"]:
            return
        assert passed < AT_MOST_SECONDS, f"never too much at {rate:.0f} events a second: {gauges.seen}"
        time.sleep(0.05)


def alert_case(alert, values):
    """A promtool test: with these levels, a minute apart, the alert fires where they have been high, not at the end."""
    high_since = [index for index in range(3, len(values)) if all(values[index - 3 : index + 1])]
    assert high_since, f"{alert}: never for long: {values}"
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rule = next(rule for group in groups for rule in group["rules"] if rule.get("alert") == alert)
    fired = {"exp_labels": {"job": "millstream", **rule["labels"]}, "exp_annotations": rule["annotations"]}
    series = f'millstream_overload_level{{job="millstream",part="{ALERTS[alert]}"}}'
    return {
        "interval": "1m",
        "input_series": [{"series": series, "values": " ".join(f"{value:g}" for value in values)}],
        "alert_rule_test": [
            {"alertname": alert, "eval_time": f"{high_since[0]}m", "exp_alerts": [fired]},
            {"alertname": alert, "eval_time": f"{len(values) - 1}m", "exp_alerts": []},
        ],
    }


def assert_alerts_fire_and_clear(gauges, folder):
    """Give promtool what was seen, each look as 4 minutes: alerts wait for minutes, the overload here lasts seconds."""
    looks = [seen for seen in gauges.seen for _ in range(4)]
    tests = [
        alert_case(alert, [seen["millstream_overload_level", part] for seen in looks]) for alert, part in ALERTS.items()
    ]
    cases = folder / "overload.test.yml"
    cases.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    run = subprocess.run(["promtool", "test", "rules", str(cases)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_ten_times_the_capacity_is_survived_and_then_all_is_as_before(application, require, tmp_path):
    """Seen to turn red where the earlier events of an event that is itself coalesced are forgotten."""
    require("promtool")
    worker = start_live(application)
    gauges = Gauges(worker)
    overload(application, gauges)
    application.until_done()
    application.until_learned()
    eventually(gauges.is_calm, lambda: f"calm: {gauges.look()}")
    totals = gauges.look()
    capacity(application)
    application.until_learned()
    assert worker.stop() == 0
    report = check(application)
    assert report.duplicate_lists == report.duplicate_examples == 0
    assert report.coalesced >= totals["millstream_coalesced_total",] > 0
    assert report.counts["sampled_out"] >= totals["millstream_examples_total", "sampled_out"] > 0
    assert report.counts["learned"] > 0
    assert_alerts_fire_and_clear(gauges, tmp_path)


@pytest.mark.long
def test_a_kill_in_the_middle_loses_nothing_and_goes_on_giving_way(application):
    worker = start_live(application)
    overload(application, Gauges(worker), seconds=1)
    worker.kill()
    application.produce(itertools.islice(now_events(seed=2), 500))
    worker = application.start(**SLOW).until_ready()
    gauges = Gauges(worker)
    eventually(lambda: gauges.level("answers") == 2, lambda: f"too much again:\n{worker.output}")
    application.until_done()
    application.until_learned()
    eventually(gauges.is_calm, lambda: f"calm: {gauges.look()}")
    assert worker.stop() == 0
    report = check(application)
    assert report.coalesced > 0
    assert report.counts["sampled_out"] > 0


def test_a_backlog_is_no_overload(application):
    """A first start on what has been waiting: it is answered one by one, and learned whole."""
    application.produce(itertools.islice(now_events(), 1_000))
    worker = application.start(**SLOW).until_ready()
    gauges = Gauges(worker)
    eventually(lambda: gauges.look() and application.lag() == 0, lambda: f"every event committed:\n{worker.output}")
    application.until_learned()
    gauges.look()
    assert worker.stop() == 0
    assert gauges.highest("answers") == gauges.highest("learning") == 0
    report = check(application)
    assert report.coalesced == report.counts["sampled_out"] == 0
