"""Owns what a question asks for, and how an answer of that kind looks. Pure; English."""

from __future__ import annotations

import re

_MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
_WEEKDAY = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?"
_SPAN = "(?:day|week|month|quarter|year|morning|evening|night|noon|spring|summer|autumn|winter)s?"
_DATE = "day|date|month|year"
_MONEY = "price|costs?|fee|rent|charge|budget|spend|paid|pay"
_CURRENCY = "(?:euro|dollar|pound|franc|crown|cent)s?|yen|EUR|USD|GBP|CHF"
_NO_NAME = "The|An?|This|That|In|On|At|For|To|If|All|Our|Your|It|By|No|As"
_ROLE = (
    "manager|team|department|officer|assistant|accountant|council|director|coordinator|everyone|"
    "everybody|anyone"
)
_MEASURES = "many|much|long|often|high|heavy|old|big|far|large|tall|wide|early|late|fast"
_FIGURES = "number|amount|length|duration|price|cost|weight|fee|rate|limit|percentage|size|phone"

_KINDS = tuple(
    (re.compile(asks, re.IGNORECASE), re.compile(answers))
    for asks, answers in (
        (rf"\bhow (?:{_MEASURES})\b|\b(?:{_FIGURES}|extension)\b", r"\d"),
        (
            rf"\b(?:when|what time|(?:what|which) (?:{_DATE})|the date|deadline|hours)\b",
            rf"\d|\b(?:{_MONTH}|{_WEEKDAY}|{_SPAN})\b",
        ),
        (
            r"\b(?:who|whose|whom|which (?:person|colleague)|leader|boss|head)\b",
            rf"(?<=[a-z,] )(?!(?:{_MONTH}|{_WEEKDAY})\b)[A-Z][a-z]+"
            rf"|^(?!(?:{_NO_NAME})\b)[A-Z][a-z]+ [A-Z][a-z]+|\b(?:{_ROLE})\b",
        ),
        (
            r"\bwhere\b|\blocation\b",
            r"\b(?:in|on|at|beside|behind|near|opposite|inside|outside|under|above|next to)\b",
        ),
        (
            rf"\bhow (?:much|expensive)\b|\b(?:{_MONEY})\b",
            rf"[€$£¥]\s?\d|\d\s?(?:[€$£¥]|(?:{_CURRENCY})\b)",
        ),
    )
)


def fits(question: str, sentence: str) -> bool:
    """Whether the sentence has what the question asks for: a number, a date, a name, a place, a
    price."""
    return any(asks.search(question) and answers.search(sentence) for asks, answers in _KINDS)
