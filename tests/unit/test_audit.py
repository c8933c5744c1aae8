"""The dependency audit: a known vulnerability fails, an index that cannot be asked does not; without a network."""

import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[2] / ".ci" / "audit"
SAFE = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-2026-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found on PyPI"}


def audit(tmp_path, report, excepted="", exit_code=0):
    """Run the audit with a pip-audit that writes `report` (text: it writes none, and says so), and obeys exceptions."""
    stand_in = tmp_path / "pip-audit"
    stand_in.write_text(
        f"#!{sys.executable}\n"
        "import json, sys\n"
        f"report = {report!r}\n"
        "if isinstance(report, str):\n"
        "    sys.exit(report)\n"
        "ignored = [sys.argv[n + 1] for n, word in enumerate(sys.argv) if word == '--ignore-vuln']\n"
        "for each in report:\n"
        "    each['vulns'] = [v for v in each.get('vulns', []) if v['id'] not in ignored]\n"
        "json.dump({'dependencies': report}, open(sys.argv[sys.argv.index('--output') + 1], 'w'))\n"
        f"sys.exit({exit_code})\n"
    )
    stand_in.chmod(0o755)
    (tmp_path / "exceptions").write_text(excepted)
    done = subprocess.run(
        [sys.executable, str(AUDIT), "requirements.lock", str(tmp_path / "exceptions")],
        env={"PIP_AUDIT": str(stand_in)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_known_vulnerability_fails_and_says_what_mends_it(tmp_path):
    code, said = audit(tmp_path, [SAFE, BAD], exit_code=1)
    assert code == 1
    assert "b 2: CVE-2026-1, mended in 3" in said


def test_an_exception_with_its_reason_passes(tmp_path):
    code, said = audit(tmp_path, [SAFE, BAD], "# why\nCVE-2026-1 only reached by a function that is not called\n")
    assert (code, said) == (0, "audit: no known vulnerability in 2 of 2 packages, 1 excepted\n")


def test_an_exception_needs_a_reason(tmp_path):
    code, said = audit(tmp_path, [SAFE], "CVE-2026-1\n")
    assert code == 1
    assert "without a reason" in said


def test_no_index_is_one_line_and_passes(tmp_path):
    code, said = audit(tmp_path, "ConnectionError: no route to host")
    assert (code, said) == (0, "audit: skipped, no index could be asked (ConnectionError: no route to host)\n")


def test_an_index_that_knows_no_package_is_not_taken_for_a_clean_bill(tmp_path):
    """Seen: behind a mirror, pip-audit skips every package and reports that none is vulnerable."""
    code, said = audit(tmp_path, [UNKNOWN, UNKNOWN])
    assert (code, said) == (0, "audit: skipped, the index that answers knows none of the 2 packages\n")


def test_packages_that_were_not_found_are_not_counted_as_audited(tmp_path):
    assert "in 1 of 2 packages" in audit(tmp_path, [SAFE, UNKNOWN])[1]


@pytest.mark.parametrize("line", (AUDIT.parent / "audit-exceptions").read_text().splitlines() or ["#"])
def test_our_own_exceptions_have_reasons(line):
    assert line.startswith("#") or len(line.split(None, 1)) == 2
