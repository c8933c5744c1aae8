"""State that belongs to another cluster or topic: a worker says so and touches nothing."""

from stream.topics.preflight import create_missing
from tests.e2e.checker import read
from tests.e2e.visits import events
from tests.e2e.workers import eventually, only_line


def lived(application):
    """Let the application have state; give what must not change."""
    worker = application.start().until_ready()
    application.produce(events(60))
    application.until_done()
    application.until_learned()
    assert worker.stop() == 0
    return kept(application)


def kept(application):
    changelog = sorted(
        (record.partition(), record.offset(), record.key(), record.value())
        for record in read(application.bootstrap, application.settings.user_state_topic)
    )
    folder = application.data_dir() / "checkpoints"
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert changelog
    assert len(files) > 2
    return changelog, files


def refused(application, bootstrap=None):
    more = {} if bootstrap is None else {"KAFKA__BOOTSTRAP_SERVERS": bootstrap}
    worker = application.start(**more)
    assert worker.wait() == 2, worker.output
    return only_line(worker.output)


def test_a_topic_made_anew_is_not_taken_for_the_old_one(application, kafka):
    before = lived(application)
    topic = application.settings.topics.events[0]
    kafka.admin.delete_topics([topic])[topic].result(30)
    eventually(lambda: topic not in kafka.admin.list_topics(timeout=10).topics, "the topic to be gone")
    create_missing(application.settings)
    application.produce(events(10))
    line = refused(application)
    assert f"topic {topic} was made anew" in line
    assert "`millstream reset --offsets`" in line
    assert kept(application) == before


def test_a_kept_data_folder_does_not_fit_a_fresh_broker(application, applications, fresh_kafka):
    before = lived(application)
    other = fresh_kafka()
    create_missing(
        application.settings.model_copy(
            update={"kafka": application.settings.kafka.model_copy(update={"bootstrap_servers": other.bootstrap})}
        )
    )
    line = refused(application, other.bootstrap)
    assert "this is another Kafka cluster" in line
    assert "`millstream reset --offsets`" in line
    assert kept(application) == before
    assert read(other.bootstrap, application.settings.user_state_topic) == [], "nothing was written to the other broker"
