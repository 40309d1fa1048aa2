"""The audit of what is locked: a finding counts until it is reviewed, and again once the review has run out."""

import datetime
import runpy
from typing import Any

import pytest

from tests.support.deploy_files import ROOT

TODAY = datetime.date(2026, 6, 1)
ENTRIES = [
    {"name": "fine", "version": "1.0", "vulns": []},
    {"name": "unknown", "skip_reason": "not found"},
    {
        "name": "broken",
        "version": "2.0",
        "vulns": [{"id": "PYSEC-1", "aliases": ["GHSA-1"], "fix_versions": ["2.1"]}],
    },
]


@pytest.fixture(scope="module")
def audit() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / ".ci" / "audit"))


def test_a_finding_names_the_package_and_the_version_that_mends_it(audit: dict[str, Any]) -> None:
    assert audit["findings"](ENTRIES, {}, TODAY) == ["broken 2.0: PYSEC-1, mended in 2.1"]


@pytest.mark.parametrize("name", ["PYSEC-1", "GHSA-1"])
def test_a_review_holds_until_its_day(audit: dict[str, Any], name: str) -> None:
    assert audit["findings"](ENTRIES, {name: {"until": TODAY}}, TODAY) == []
    assert audit["findings"](ENTRIES, {name: {"until": TODAY - datetime.timedelta(days=1)}}, TODAY) != []


def test_all_that_is_locked_has_a_hash() -> None:
    entries = (ROOT / "requirements.lock").read_text().replace("\\\n", " ").splitlines()
    locked = [line for line in entries if line and not line.lstrip().startswith("#")]
    assert len(locked) > 100
    assert [line.split()[0] for line in locked if "--hash=sha256:" not in line] == []
