"""What an audit is worth: found, clean, or nobody to ask."""

from __future__ import annotations

from infra.lint.audit import FOUND, OK, UNKNOWN, judge

CLEAN = {"name": "orjson", "version": "3.13", "vulns": []}
SKIPPED = {"name": "own", "skip_reason": "not found on PyPI"}
WRONG = {
    "name": "old", "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"], "aliases": []}],
}  # fmt: skip


def test_a_vulnerability_is_named_with_its_remedy() -> None:
    verdict = judge([CLEAN, WRONG])
    assert verdict.status == FOUND
    assert verdict.lines[0] == "old 1.0: PYSEC-1, mended in 1.1"


def test_clean_says_what_it_does_not_know() -> None:
    verdict = judge([CLEAN, SKIPPED])
    assert (verdict.status, "1 are unknown" in verdict.lines[0]) == (OK, True)


def test_nobody_to_ask_is_no_good_news() -> None:
    assert judge([SKIPPED]).status == UNKNOWN
    assert judge([]).status == UNKNOWN
