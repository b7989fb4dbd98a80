"""Owns arithmetic: what an expression may contain and how a result reads. Pure."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable

from simpleeval import InvalidExpression, SimpleEval

from shared.errors import Permanent

MAX_LENGTH, MAX_EXPONENT, MAX_DIGITS = 400, 1_000, 1_000
DECIMALS = 6
_ALLOWED = re.compile(r"[\d\s.eE+\-*/%()]+")
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "^": "^"})  # noqa: RUF001
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
Number = int | float


def calculate(expression: str) -> str:
    """The value of an arithmetic expression: + - * / // % ** and parentheses.

    Raises:
        Permanent: `division_by_zero`, `invalid_expression` or `number_too_large`.
    """
    text = _THOUSANDS.sub("", expression.translate(_SIGNS).replace("^", "**")).strip()
    if len(text) > MAX_LENGTH or not _ALLOWED.fullmatch(text):
        raise _invalid()
    evaluator = SimpleEval(operators=_OPERATORS, functions={}, names={})
    try:
        value = evaluator.eval(text)
    except ZeroDivisionError as error:
        raise Permanent("division_by_zero", "division by zero") from error
    except OverflowError as error:
        raise _too_large() from error
    except (InvalidExpression, SyntaxError, TypeError, ValueError, RecursionError) as error:
        raise _invalid() from error
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid()
    return show(value)


def show(value: Number) -> str:
    """At most six decimals, none where there is nothing behind the point.

    Raises:
        Permanent: `number_too_large` for infinity and what is not a number.
    """
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        raise _too_large()
    if abs(value) >= 1e16:
        return f"{value:.6g}"
    rounded = round(value, DECIMALS)
    if rounded == int(rounded):
        return str(int(rounded))
    return f"{rounded:.{DECIMALS}f}".rstrip("0")


def _invalid() -> Permanent:
    return Permanent("invalid_expression", "invalid expression", field="expression")


def _too_large() -> Permanent:
    return Permanent("number_too_large", "number too large", field="expression")


def _bounded(value: Number) -> Number:
    if isinstance(value, int) and value.bit_length() > MAX_DIGITS * 3.33:
        raise _too_large()
    return value


def _times(a: Number, b: Number) -> Number:
    return _bounded(a * b)


def _power(a: Number, b: Number) -> Number:
    """Bounded before it is computed: 9**9**9 would never end."""
    if abs(b) > MAX_EXPONENT or abs(b) * math.log10(abs(a) + 1) > MAX_DIGITS:
        raise _too_large()
    value = a**b
    if isinstance(value, complex):
        raise _invalid()
    return _bounded(value)


_OPERATORS: dict[type[ast.AST], Callable[..., Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _times,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
