"""Arithmetic: expressions, their wording and the calculator's own answers.

Owns number words, word problems (`data/sums.txt`) and the reference calculator. Knows nothing of
conversations.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from .topics import many
from .vocabulary import Voice, lines, listed

ONES = listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
TENS = listed("zero ten twenty thirty forty fifty sixty seventy eighty ninety")
WORDS = {
    "+": ["plus", "plus", "+"],
    "-": ["minus", "minus", "-"],
    "*": ["times", "times", "x", "*", "multiplied by", "\u00d7"],
    "/": ["divided by", "divided by", "/", "over", "÷"],
}
VERBS = tuple(
    listed(
        "multiply add subtract divide square take double halve cube split raise reduce sum start "
        "increase deduct triple"
    )
)
SIGNS: dict[type, Callable[[float], float]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
OPERATORS: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
ALLOWED = re.compile(r"[\d\s.+\-*/%()]+")
CLAUSE = re.compile(r" (if|when) ")
# In these the numbers stand in the order in which the user names them.
ANY_ORDER = {"{a} + {b}", "{a} * {b}", "{a} * {b} / 100", "{a} + {b} + {c}", "{a} * {b} * {c}"}


@dataclass(frozen=True)
class Sum:
    """An expression and one way to ask for it: a question clause, a command or a story."""

    expression: str
    form: str
    text: str

    @property
    def result(self) -> str:
        """What the calculator says."""
        return calculate(self.expression)


@dataclass
class Group:
    """One expression shape with its phrasings."""

    expression: str
    weight: int
    ranges: dict[str, str] = field(default_factory=dict)
    phrasings: list[tuple[str, str]] = field(default_factory=list)


def spell(number: int) -> str:
    """A number below a million in English words."""
    if number < 20:
        return ONES[number]
    if number < 100:
        tail = number % 10
        return TENS[number // 10] + (f"-{ONES[tail]}" if tail else "")
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            tail = number % size
            joint = " and " if tail and tail < 100 else " "
            return f"{spell(number // size)} {name}" + (joint + spell(tail) if tail else "")
    raise ValueError(number)


def show(value: float) -> str:
    """A result as the calculator prints it."""
    value = round(float(value), 6)
    return str(int(value)) if value == int(value) else repr(value)


def value_of(node: ast.expr) -> float:
    """The value of a parsed expression of numbers and operators."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.UnaryOp) and type(node.op) in SIGNS:
        return SIGNS[type(node.op)](value_of(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](value_of(node.left), value_of(node.right))
    raise ValueError(node)


def calculate(expression: str) -> str:
    """The calculator tool."""
    if not ALLOWED.fullmatch(expression):
        return "error: invalid expression"
    try:
        return show(value_of(ast.parse(expression, mode="eval").body))
    except ZeroDivisionError:
        return "error: division by zero"
    except (SyntaxError, TypeError, OverflowError, ValueError):
        return "error: invalid expression"


@cache
def groups() -> list[Group]:
    """The phrasings of the data file."""
    out: list[Group] = []
    for line in lines("sums.txt"):
        if line[0] == "=":
            head = re.fullmatch(r"= (.+?) x(\d+) (.+)", line)
            if head is None:
                raise ValueError(line)
            ranges = dict(part.split("=") for part in head[3].split())
            out.append(Group(head[1], int(head[2]), ranges))
        else:
            form, _, text = line[1:].strip().partition("|")
            out[-1].phrasings.append((form, text))
    return out


def number(voice: Voice, span: str) -> str:
    """A number in digits."""
    rng = voice.rng
    if span == "p":
        cents = rng.choice(["50", "25", "99", "5", "80", "20"])
        return rng.choice([f"{rng.randint(1, 99)}.{cents}", str(rng.randint(1, 250))])
    low, _, high = span.partition("-")
    top = int(high)
    if voice.chance(0.5):
        top = max(int(low) + 1, min(top, 99))
    if voice.chance(0.03) and int(high) >= 500:
        return f"{rng.randint(1, 99)}.{rng.choice('123456789')}"
    if voice.chance(0.05) and int(high) >= 900:
        return str(rng.randint(1000, 9999))
    return str(rng.randint(int(low), top))


def written(voice: Voice, digits: str, words: bool) -> str:
    """The number as the user writes it."""
    if "." in digits:
        return digits
    if (words and len(digits) < 4) or (len(digits) < 3 and int(digits) < 13 and voice.chance(0.2)):
        return spell(int(digits))
    if len(digits) > 3 and voice.chance(0.15):
        return f"{int(digits):,}"
    return digits


def phrased(voice: Voice) -> Sum:
    """A sum from the data file."""
    group = voice.rng.choices(groups(), [g.weight for g in groups()])[0]
    values = {name: number(voice, span) for name, span in group.ranges.items()}
    form, template = voice.rng.choice(group.phrasings)
    if group.expression == "{a} / {b}" and form != "s" and voice.chance(0.1):
        values["b"] = "0"
    mode = voice.rng.random()
    slots = {
        name: written(voice, value, mode < 0.25 or (mode < 0.33 and voice.chance(0.5)))
        for name, value in values.items()
    }
    if slots.get("b", "").startswith("-"):
        slots["b"] = values["b"]
    slots["item"], slots["container"] = voice.pool("item"), voice.pool("container")
    slots["cur"] = voice.pool("cur")
    for name in ("item", "container"):
        slots[name + "s"] = many(slots[name])
        template = template.replace("{" + name + "}s", "{" + name + "s}")
    template = voice.expand(template, {name: f"\0{name}\0" for name in slots})
    expression = group.expression
    if expression in ANY_ORDER:
        expression = reordered(expression, re.findall(r"\0([abc])\0", template))
    text = re.sub(r"\0(\w+)\0", lambda m: slots[m[1]], template)
    form, text = recast(voice, form, text)
    return Sum(expression.format(**values), form, text)


def reordered(expression: str, order: list[str]) -> str:
    """The expression with its names in the given order."""
    names = iter(dict.fromkeys(order))
    return re.sub(r"\{[abc]\}", lambda _: "{" + next(names) + "}", expression)


def recast(voice: Voice, form: str, text: str) -> tuple[str, str]:
    """Now and then the same request in another shape."""
    if form == "c" and text.startswith(VERBS) and voice.chance(0.25):
        return "q", voice.worded("sum from command", {"x": text})
    for start in ("what is ", "how much is "):
        if form == "q" and text.startswith(start) and not CLAUSE.search(text) and voice.chance(0.3):
            rest = text.removeprefix(start)
            if voice.chance(0.25):
                return "s", rest + voice.expand("(?|, please|.| please|)")
            if voice.chance(0.35):
                return "s", voice.worded("sum in a sentence", {"x": rest})
            return "q", voice.worded("sum from question", {"x": rest})
    return form, text


def chain(voice: Voice) -> tuple[str, list[str]]:
    """An expression of two to four operands, and its pieces."""
    rng = voice.rng
    count = rng.choice([2, 2, 2, 2, 3, 3])
    pieces = [number(voice, "0-999")]
    for _ in range(count - 1):
        pieces += [rng.choice("++--**/"), number(voice, rng.choice(["1-99", "1-999"]))]
    if voice.chance(0.02):
        pieces[-2:] = ["/", "0"]
    if count > 2 and voice.chance(0.35):
        start = rng.choice(range(0, len(pieces) - 2, 2))
        pieces[start] = "(" + pieces[start]
        pieces[start + 2] += ")"
    return " ".join(pieces), pieces


def symbolic(voice: Voice) -> Sum:
    """A sum written with signs or with their names."""
    expression, pieces = chain(voice)
    style = voice.rng.random()
    if style < 0.3:
        text = expression
    elif style < 0.45:
        text = expression.replace(" ", "")
    elif style < 0.55:
        text = expression.replace("*", voice.rng.choice(["x", "\u00d7"])).replace("/", "÷")
    else:
        words = voice.chance(0.5) and "(" not in expression
        text = " ".join(
            voice.rng.choice(WORDS[p]) if p in WORDS else written(voice, p, words)
            if "(" not in p and ")" not in p else p
            for p in pieces
        )  # fmt: skip
    return ask(voice, expression, text)


def plain(voice: Voice) -> Sum:
    """Two numbers and a sign, written with the sign or with its name."""
    a, sign, b = number(voice, "2-500"), voice.rng.choice("+-*/*"), number(voice, "2-99")
    text = f"{a} {sign} {b}" if voice.chance(0.5) else f"{a} {voice.rng.choice(WORDS[sign])} {b}"
    return Sum(f"{a} {sign} {b}", "q", text)


def ask(voice: Voice, expression: str, text: str) -> Sum:
    """A plain question or command for an expression."""
    if voice.chance(0.55):
        lead = voice.expand(
            "(what is|how much is|what's|what does|what's the result of|what "
            "would you get for|what do you get for|what comes out of)"
        )
        tail = voice.expand(" (give|make|equal|come to)") if lead == "what does" else ""
        return Sum(expression, "q", f"{lead} {text}{tail}")
    lead = voice.expand(
        "(calculate|compute|work out|evaluate|solve|find|give me|get me|determine|figure out|tell "
        "me|do the sum|please do|run|give me the result of|tell me the answer to|show me|"
        "check|crunch|do)"
    )
    return Sum(expression, "c", f"{lead} {text}")


def bare(voice: Voice) -> Sum:
    """An expression with hardly a word."""
    expression, _ = chain(voice)
    text = expression if voice.chance(0.6) else expression.replace(" ", "")
    ends = ["", " =", " = ?", "?", " please", "=", ", go", ", please", " equals what?", " equals?"]
    return Sum(expression, "s", text + voice.rng.choice(ends))


def draw(voice: Voice) -> Sum:
    """Any sum."""
    roll = voice.rng.random()
    if roll < 0.6:
        return phrased(voice)
    return symbolic(voice) if roll < 0.92 else bare(voice)
