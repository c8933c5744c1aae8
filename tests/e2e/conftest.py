"""Workers on a real Kafka, and someone who checks what they did."""

import pytest

from tests.e2e.workers import Application, Nursery


@pytest.fixture(scope="session")
def nursery():
    """Forks workers; see `nursery.py`."""
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def applications(fresh_prefix, tmp_path, nursery):
    """Give `applications(bootstrap, partitions, **more settings)`: with topics of their own; all end with the test."""
    made = []

    def make(bootstrap, partitions=4, **more):
        number = len(made)
        folder = tmp_path / f"app{number}"
        folder.mkdir()
        application = Application(bootstrap, f"{fresh_prefix}-{number}", folder, nursery, partitions, more)
        made.append(application)
        return application.create_topics()

    yield make
    for application in made:
        application.close()


@pytest.fixture
def application(kafka, applications):
    """An application of this test's own on the session's broker, its topics made."""
    return applications(kafka.bootstrap)
