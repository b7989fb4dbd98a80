"""How found passages read for a small model: one line each."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from services.tools.core.passages import one_line, render
from shared.contracts.retrieval import Passage


def passage(text: str, document: str = "travel.md") -> Passage:
    return Passage(document=document, text=text, score=0.8, start=0, end=len(text), sequence=1)


def test_one_line_per_passage() -> None:
    found = [passage("One\nnight costs\n\n140 euros."), passage("Breakfast.", "a\nb.md")]
    assert render(found) == "[1] travel.md: One night costs 140 euros.\n[2] a b.md: Breakfast."


def highlighted(text: str, highlight: str, runner_up: str = "") -> str:
    return render([replace(passage(text), highlight=highlight, runner_up=runner_up)])


def test_the_best_sentence_is_in_bold() -> None:
    text = "## Hotels\nBook early.\nOne night\ncosts 140 euros."
    assert highlighted(text, "One night costs 140 euros.") == (
        "[1] travel.md: Hotels: Book early. **One night costs 140 euros.**"
    )


def test_bold_in_a_document_is_not_mistaken_for_it() -> None:
    text = "It is **never** free. **Pay** 2 ** 3 euros."
    assert highlighted(text, "**Pay** 2 ** 3 euros.") == (
        "[1] travel.md: It is never free. **Pay 2 ** 3 euros.**"
    )


def test_a_highlight_that_stands_twice_is_marked_once() -> None:
    assert highlighted("Free. Free.", "Free.") == "[1] travel.md: **Free.** Free."


@pytest.mark.parametrize(
    ("text", "best", "next_best", "line"),
    [
        ("A. B. C.", "C.", "A.", "**A.** B. **C.**"),
        ("A. B. C.", "B.", "C.", "A. **B.** **C.**"),
        ("So free. Free. 2 ** 3.", "2 ** 3.", "So free.", "**So free.** Free. **2 ** 3.**"),
        ("It is free. free.", "It is free.", "free.", "**It is free.** **free.**"),
        ("It is free. No.", "It is free.", "free.", "**It is free.** No."),
    ],
)
def test_two_sentences_that_are_as_good_are_both_in_bold(
    text: str, best: str, next_best: str, line: str
) -> None:
    assert highlighted(text, best, next_best) == f"[1] travel.md: {line}"


def test_a_heading_that_is_the_best_is_in_bold() -> None:
    assert highlighted("## Sick leave", "Sick leave") == "[1] travel.md: **Sick leave**"


def test_nothing_found_is_said() -> None:
    assert render([]) == "no results"


def test_a_heading_is_dropped_where_the_text_names_it() -> None:
    assert one_line("# Leave\n\n## Sick leave ##\n\nSick leave is paid.") == "Sick leave is paid."


def test_a_heading_leads_where_the_text_needs_it() -> None:
    assert one_line("## Sick leave\nIt is fully paid.") == "Sick leave: It is fully paid."


def test_a_heading_alone_is_its_own_text() -> None:
    assert one_line("## Sick leave") == "Sick leave"


def test_a_heading_in_the_middle_loses_its_marks() -> None:
    assert one_line("First.\n## Then\nSecond.") == "First. Then Second."
