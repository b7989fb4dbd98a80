"""What the demo asks and what it expects, and how an answer is judged. Pure.

Only content is judged (numbers, sources, tools used), never the exact words of a model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shared.contracts.facts import Done, Inferred
from shared.contracts.log import StoredFact
from shared.timeline import Timeline

Way = Literal["nats", "http", "openai", "client"]
HANDBOOK = Path(__file__).parent / "handbook"


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be true of the end of a task."""

    texts: tuple[str, ...] = ()
    """Each must occur in the answer, whole: 14 does not occur in 140."""
    tools: tuple[str, ...] = ()
    """The tools that were called, in any order, each as often as it stands here."""
    source: str = ""
    together: int = 0
    """At least this many calls in one answer of the model."""
    status: str = "completed"


@dataclass(frozen=True, slots=True)
class Case:
    """One task. Cases with the same `session` follow each other in one session."""

    title: str
    way: Way
    question: str
    expected: Expected
    session: str
    agent: str = "assistant"
    cancel: bool = False


SEARCH, CALCULATE = "search_knowledge", "calculator"

CASES = (
    Case("arithmetic in digits", "nats", "What is 17 * 23?", Expected(("391",), (CALCULATE,)), "a"),
    Case(
        "arithmetic in words",
        "http",
        "What is twelve times fourteen?",
        Expected(("168",), (CALCULATE,)),
        "b",
    ),
    Case(
        "look-up with its source",
        "nats",
        "What is the mileage rate?",
        Expected(("30",), (SEARCH,), "travel.md"),
        "c",
    ),
    Case(
        "another look-up",
        "http",
        "How often is the laptop replaced?",
        Expected(("4 years",), (SEARCH,), "equipment.md"),
        "d",
    ),
    Case(
        "look up, then compute",
        "nats",
        "How much is the hotel limit, and what is that for 3 nights?",
        Expected(("140", "420"), (SEARCH, CALCULATE), "travel.md"),
        "e",
    ),
    Case(
        "two tools at once",
        "http",
        "What is 12 * 12 and what time is it in Tokyo?",
        Expected(("144", "Asia/Tokyo"), (CALCULATE, "current_time"), together=2),
        "f",
    ),
    Case(
        "remember",
        "nats",
        "Remember that my badge number is 4711.",
        Expected(("4711",), ("remember",)),
        "g",
    ),
    Case(
        "recall, in a second task of the session",
        "http",
        "What is my badge number?",
        Expected(("4711",), ("recall",)),
        "g",
    ),
    Case(
        "an unknown topic",
        "nats",
        "What is the submarine allowance?",
        Expected(("nothing",), (SEARCH,)),
        "h",
    ),
    Case(
        "a tool error",
        "http",
        "What is 5 divided by 0?",
        Expected(("division by zero",), (CALCULATE,)),
        "i",
    ),
    Case(
        "the time",
        "nats",
        "What time is it in Berlin?",
        Expected(("Europe/Berlin",), ("current_time",)),
        "j",
    ),
    Case("small talk", "http", "Hello!", Expected(("help",)), "k"),
    Case(
        "an agent with one tool",
        "nats",
        "What is 144 / 12?",
        Expected(("12",), (CALCULATE,)),
        "l",
        agent="calculator",
    ),
    Case(
        "the OpenAI client, streaming",
        "openai",
        "How many users does the Basic plan include?",
        Expected(("5",), (SEARCH,), "plans.md"),
        "m",
    ),
    Case(
        "cancelled while it waits for its session",
        "client",
        "What is 99 * 99?",
        Expected(status="cancelled"),
        "n",
        cancel=True,
    ),
)


def faults(case: Case, line: Timeline, facts: list[StoredFact]) -> list[str]:
    """What is wrong with the end of a task; empty: nothing. `facts` are those of the task."""
    want = case.expected
    found = [] if line.status == want.status else [f"it is {line.status}, not {want.status}"]
    found += [
        f"the answer lacks {text!r}" for text in want.texts if not mentions(line.output, text)
    ]
    if want.source and want.source not in line.output:
        found.append(f"the answer does not name {want.source}")
    called = sorted(row.label for row in line.rows if row.kind == "tool")
    if called != sorted(want.tools):
        found.append(f"it called {called or 'no tool'}, not {sorted(want.tools) or 'none'}")
    if calls_at_once(facts) < want.together:
        found.append("the calls were not made together")
    ends = sum(isinstance(stored.fact, Done) for stored in facts)
    if ends != 1:
        found.append(f"it ended {ends} times")
    return found


def mentions(answer: str, text: str) -> bool:
    """Whether `text` stands in the answer as a whole, in any case; digits may be grouped."""
    plain = re.sub(r"(?<=\d),(?=\d{3}\b)", "", answer)
    return re.search(rf"(?<![\w.]){re.escape(text)}(?!\w|\.\d)", plain, re.IGNORECASE) is not None


def calls_at_once(facts: list[StoredFact]) -> int:
    """The most tool calls that the model made in one answer."""
    said = [len(s.fact.tool_calls) for s in facts if isinstance(s.fact, Inferred)]
    return max(said, default=0)
