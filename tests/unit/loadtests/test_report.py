"""What is printed and written: every figure is there, and nothing from outside is markup."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from loadtests import report
from loadtests.result import Result
from loadtests.table import COLUMNS, row, show
from shared.errors import Broken, Permanent
from tests.unit.loadtests.runs import judged, raw

LOCUST = '<html><body><p>curves</p><div id="root"></div></body></html>'


def failing() -> Result:
    found = raw()
    found.load.book.of("chat", "a").failed(Permanent("wrong_answer", "<b>[red]no[/red]</b>"))
    return judged(found)


def printed(result: Result) -> str:
    out = io.StringIO()
    show(Console(file=out, width=120), result)
    return out.getvalue()


def test_the_table_has_a_cell_for_each_column() -> None:
    for line in judged().lines:
        assert len(row(line)) == len(COLUMNS)


def test_a_good_run_is_told() -> None:
    text = printed(judged())
    assert "chat_stream" in text
    assert "100 operations, 0 failed" in text
    assert "7 tasks ended once each" in text
    assert text.rstrip().endswith("load: passed")


def test_a_bad_run_says_why_as_it_was_said() -> None:
    text = printed(failing())
    assert "1 x chat: wrong_answer: <b>[red]no[/red]</b>" in text
    assert "broken: failed of all: 0.0099 (limit 0)" in text
    assert text.rstrip().endswith("rules broken")


def test_the_page_is_locusts_with_ours_before_it_and_escaped() -> None:
    page = report.page(failing(), LOCUST)
    assert page.index("<p>curves</p>") < page.index("Millrace") < page.index('<div id="root">')
    assert "&lt;b&gt;[red]no" in page
    assert "<b>" not in page


def test_another_form_of_locusts_page_is_noticed() -> None:
    with pytest.raises(Broken, match="unknown_report"):
        report.page(judged(), "<html></html>")


def test_the_result_can_be_read_again(tmp_path: Path) -> None:
    html, data = report.write(tmp_path / "load", judged(), LOCUST)
    assert html.read_text().startswith("<html>")
    assert msgspec.json.decode(data.read_bytes(), type=Result) == judged()
