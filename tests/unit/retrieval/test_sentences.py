"""Where a passage is cut into sentences."""

from __future__ import annotations

import pytest

from services.retrieval.core.sentences import Sentence, sentences


def cut(passage: str) -> list[str]:
    return [sentence.text for sentence in sentences(passage)]


@pytest.mark.parametrize(
    ("passage", "expected"),
    [
        ("One. Two? Three!", ["One.", "Two?", "Three!"]),
        ("One night\ncosts 140 euros. No more.", ["One night costs 140 euros.", "No more."]),
        ("It costs 2.50 euros. 3 are free.", ["It costs 2.50 euros.", "3 are free."]),
        ('He said "No." Then he left.', ['He said "No."', "Then he left."]),
        ("Ask Dr. Smith, e.g. Tom. Or call.", ["Ask Dr. Smith, e.g. Tom.", "Or call."]),
        ("J. Smith came. She stayed.", ["J. Smith came.", "She stayed."]),
        ("Look at example.com. it is there", ["Look at example.com. it is there"]),
        ("no mark at the end", ["no mark at the end"]),
        ("\u6211\u6709\u3002\u6ca1\u6709\uff01", ["\u6211\u6709\u3002", "\u6ca1\u6709\uff01"]),
        ("Oui. \u00c9t\u00e9 chaud. Non.", ["Oui.", "\u00c9t\u00e9 chaud.", "Non."]),
        ("  \n\n ", []),
    ],
)  # fmt: skip
def test_a_paragraph(passage: str, expected: list[str]) -> None:
    assert cut(passage) == expected


def test_list_items_and_rows_stand_for_themselves() -> None:
    passage = (
        "Bring\n- a laptop,\n  charged\n2) a badge. And keys.\n\n| day | fee |\n| Monday | 9 |"
    )
    assert cut(passage) == [
        "Bring", "a laptop, charged", "a badge.", "And keys.", "| day | fee |", "| Monday | 9 |",
    ]  # fmt: skip


def test_a_heading_is_said_of_what_is_below_it() -> None:
    assert sentences("# Travel\n## Hotels ##\nBook early.\n## Meals\nEat well.") == [
        Sentence("Book early.", "Hotels"),
        Sentence("Eat well.", "Meals"),
    ]


def test_a_heading_alone_is_a_sentence() -> None:
    assert sentences("# Travel\n\n## Hotels\n") == [Sentence("Hotels")]
