"""What a worker counts of its trainer's returns: those of its own time, each once."""

from concurrent.futures import Future

from prometheus_client import CollectorRegistry

from monitoring.metrics import Metrics
from stream.settings import KafkaSettings, Settings
from stream.trainer_messages import Facts, Started
from stream.trainer_news import TrainerNews
from stream.workload import Workload


def started(n_returns):
    return Started("run", 0, 0, None, None, {}, {}, n_returns)


def facts(n_returns, **changes):
    values = {
        "steps": [],
        "new_examples": {},
        "examples": {},
        "position": 0,
        "log_end": 0,
        "n_expired": 0,
        "version": 0,
        "n_items": 0,
        "n_evicted": 0,
        "stream_time": None,
        "measure": {},
        "checkpoint_at": None,
        "checkpoint_seconds": [],
        "checkpoint_failures": 0,
        "n_returns": n_returns,
    }
    return Facts(**values | changes)


def test_returns_are_counted_once_and_not_those_of_earlier_processes():
    metrics = Metrics(CollectorRegistry())
    settings = Settings(kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1"))
    workload = Workload(settings, metrics, lambda: 0, lambda _: None)
    news = TrainerNews(metrics, workload, lambda *_: Future(), lambda _: None, lambda _: None)
    for message in (started(2), facts(2, on_trial=True), facts(2, on_trial=True)):
        news.take(message)
    value = metrics.registry.get_sample_value
    assert value("millstream_rollbacks_total") == 0
    assert value("millstream_guard_trial") == 1
    for message in (started(3), facts(3, guard_exhausted=True), facts(3, guard_exhausted=True)):
        news.take(message)
    assert value("millstream_rollbacks_total") == 1
    assert value("millstream_guard_trial") == 0
    assert value("millstream_guard_exhausted") == 1
