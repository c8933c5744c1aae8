from tests.e2e.checker import LOST, Expected, Report
from tests.soak.report import Done, Outcome, page


def outcome(**changes):
    done = [Done("kill_worker", 3.0, 4.0), Done("kill_worker", 60.0, 9.0), Done("add_scorer", 80.0, None, "three run")]
    return Outcome(7, 120.0, done, [("main", -9), ("main", -9)], 1000, report=Report(Expected()), **changes)


def test_a_soak_that_lost_nothing_passes():
    found = outcome()
    assert found.faults() == []
    text = page(found)
    assert text.startswith("soak: seed 7, 120 s, 2 faults, passed\n")
    assert "kill_worker                2      6.5    9.0" in text
    assert "add_scorer                 0      not done 1x: three run" in text
    assert "2x main -9" in text


def test_whatever_is_lost_or_stays_still_fails_it():
    lost = outcome()
    lost.report.find(LOST, [(0, 1), (0, 2)])
    assert lost.faults() == ["events lost: 2, such as [(0, 1), (0, 2)]"]
    assert "FAILED" in page(lost)
    stuck = outcome()
    stuck.done.append(Done("pause_broker", 90.0, None))
    assert stuck.faults() == ["no answers after pause_broker"]
    unchecked = outcome()
    unchecked.report = None
    assert unchecked.faults() == ["nothing was checked"]
