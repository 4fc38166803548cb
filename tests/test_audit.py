"""What `make audit` says of a report."""

from __future__ import annotations

from tests.audit import told

SKIPPED = {"name": "a", "skip_reason": "not found"}
SOUND = {"name": "b", "version": "1", "vulns": []}
FAULTY = {"name": "c", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
HOPELESS = {"name": "d", "version": "4", "vulns": [{"id": "CVE-2", "fix_versions": []}]}


def test_faults_are_told_and_fail() -> None:
    said, code = told([SKIPPED, SOUND, FAULTY, HOPELESS])
    assert code == 1
    assert said.splitlines() == [
        "c 2: CVE-1, mended in 3",
        "d 4: CVE-2, mended in no version yet",
        "3 packages looked up, 1 not found, 2 faults",
    ]


def test_no_faults_are_no_failure() -> None:
    assert told([SOUND]) == ("1 packages looked up, 0 not found, 0 faults", 0)


def test_where_nothing_can_be_looked_up_it_says_so() -> None:
    said, code = told([SKIPPED])
    assert code == 0
    assert said.startswith("no database of known faults can be reached")
