"""Owns what a question asks for, and how an answer of that kind looks. Pure; English."""

from __future__ import annotations

import re

_MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
_WEEKDAY = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?"
_SPAN = "(?:day|week|month|quarter|year|morning|evening|night|noon|spring|summer|autumn|winter)s?"
_DATE = "day|date|month|year"
_MONEY = (
    "price|costs?|fee|rent|charge|budget|spend|paid|pay|worth|allowance|bonus|grant|subsidy|refund"
)
_CURRENCY = (
    "(?:euro|dollar|pound|franc|crown|cent|rupee|peso)s?|yen|yuan|zloty|kron(?:a|or|er|e)|"
    "EUR|USD|GBP|CHF|JPY|PLN|SEK|NOK|DKK|INR|CNY"
)
_NO_NAME = "The|An?|This|That|In|On|At|For|To|If|All|Our|Your|It|By|No|As"
_ROLE = (
    "manager|team|department|officer|assistant|accountant|council|director|coordinator|everyone|"
    "everybody|anyone"
)
_MEASURES = "many|much|long|often|high|heavy|old|big|far|large|tall|wide|early|late|fast"
_FIGURES = "number|amount|length|duration|price|cost|weight|fee|rate|limit|percentage|size|phone"

_TIME = "(?:minute|hour|day|week|month|year)s?"
_PEOPLE = (
    "people|persons?|guests?|colleagues?|members?|seats?|places?|users?|visitors?|participants?|"
    "employees?|children|staff"
)

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
        (
            rf"\bhow (?:long|soon|quickly)\b|\b(?:duration|length|period|{_TIME})\b",
            rf"\d {_TIME}\b",
        ),
        (
            rf"\bhow (?:many|big|large)\b.*\b(?:{_PEOPLE})\b"
            r"|\bhow (?:big|large|full)\b|\b(?:size|capacity|headcount|attend\w*)\b",
            rf"\d (?:{_PEOPLE})\b",
        ),
        (
            r"\b(?:qualif\w+|eligible|entitled)\b|\bwhen (?:can|may|do|am) I\b|\bwhen I\b"
            r"|\bmust I (?:be|work|wait)\b|\bhave to wait\b",
            rf"\bafter \d+ {_TIME}\b",
        ),
        (
            r"\b(?:notice|advance|ahead|beforehand|how (?:soon|far|early)|long before)\b",
            rf"\b{_TIME} (?:in advance|ahead|before\w*|notice)\b|\bnotice period\b",
        ),
        (
            r"\b(?:cap|ceiling|limits?|maximum|most|allowed|permitted)\b",
            r"\b(?:limit(?:s|ed)?|maximum|[Uu]p to|at most|no more than)\b",
        ),
        (
            r"\b(?:extension|phone|telephone|call|ring)\b",
            r"\b(?:[Ee]xtension|[Pp]hone|[Tt]elephone)\b.*\d|\+?\d[\d /-]{4,}",
        ),
        (
            r"\b(?:opened|built|founded|established|introduced|invented|changed)\b",
            rf"\b(?:1\d|20)\d\d\b|\b(?:{_MONTH})\b",
        ),
    )
)


def fits(question: str, sentence: str) -> int:
    """How many kinds of answer the question asks for and the sentence has: a number, a date, a
    name, a place, a price, a span of time, people, a wait, a notice, a limit, a telephone, a year.

    A price is a number, too: it fits "how much" twice, and a number of people once.
    """
    return sum(1 for asks, answers in _KINDS if asks.search(question) and answers.search(sentence))
