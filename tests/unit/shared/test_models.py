"""The models file: what is wrong with it is said with its place; money is counted exactly."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Permanent
from shared.models import amount, cost, micro_cents, read_models

GOOD = """
models:
  small: {engine: openvino, path: models/small, prices: {input: "0.02", output: "0.06"}}
  large: {engine: openvino, path: models/large, concurrency: 2}
routes:
  default: [small, large]
"""


def read(folder: Path, text: str | bytes):
    path = folder / "models.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_models(path)


def test_a_good_file(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD)
    assert found.candidates("default") == ("small", "large")
    assert found.candidates("large") == ("large",)
    assert found.models["small"].prices.output == "0.06"


def test_an_unknown_route_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(Permanent) as caught:
        read(tmp_path, GOOD).candidates("fats")
    assert (caught.value.code, caught.value.field) == ("unknown_route", "route")
    assert "default, large, small" in caught.value.detail


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        (GOOD, "models: [", "models.yaml"),
        (GOOD, "", "object"),
        (GOOD, "- 1", "object"),
        (GOOD, "models: {}", "routes"),
        ("engine: openvino, path: models/small", "engine: magic, path: x", "magic"),
        ("engine: openvino, path: models/small", "engine: openvino", "path"),
        ("path: models/large", "path: models/large, pahts: x", "pahts"),
        ("concurrency: 2", "concurrency: 0", "concurrency"),
        ("concurrency: 2", "context: -1", "context"),
        ("[small, large]", "[small, huge]", "huge"),
        ("[small, large]", "[]", "names no model"),
        ("[small, large]", "small", "routes"),
        ('"0.02"', '"two"', "two"),
        ('"0.02"', '"NaN"', "NaN"),
        ('"0.02"', '"Infinity"', "Infinity"),
        ('"0.02"', '"-0.02"', "-0.02"),
        ('"0.02"', "0.02", "prices.input"),
    ],
)
def test_a_bad_file_is_refused_with_the_reason(
    tmp_path: Path, old: str, new: str, hint: str
) -> None:
    with pytest.raises(Permanent) as caught:
        read(tmp_path, GOOD.replace(old, new))
    assert caught.value.code == "invalid_models_file"
    assert hint in f"{caught.value.detail} {caught.value.field}"


@pytest.mark.parametrize(
    ("row", "field", "known"),
    [
        ("parser: hermess", "models.small.parser", "hermes"),
        ("reasoning: qwen", "models.small.reasoning", "qwen3"),
    ],
)
def test_a_format_that_does_not_exist_is_refused_with_those_that_do(
    tmp_path: Path, row: str, field: str, known: str
) -> None:
    with pytest.raises(Permanent) as caught:
        read(tmp_path, GOOD.replace("path: models/small", f"path: models/small, {row}"))
    assert (caught.value.code, caught.value.field) == ("unknown_parser", field)
    assert known in caught.value.detail.partition("known are")[2]


def test_a_format_may_be_named(tmp_path: Path) -> None:
    row = "path: models/small, parser: mistral, reasoning: none"
    small = read(tmp_path, GOOD.replace("path: models/small", row)).models["small"]
    assert (small.parser, small.reasoning) == ("mistral", "none")
    assert read(tmp_path, GOOD).models["large"].parser == "auto"


@pytest.mark.parametrize("body", [b"\xff\xfe\xff", b"models: \x00"])
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(Permanent) as caught:
        read(tmp_path, body)
    assert caught.value.code == "invalid_models_file"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Permanent) as caught:
        read_models(tmp_path / "nowhere.yaml")
    assert "nowhere.yaml" in caught.value.detail


@pytest.mark.parametrize(
    ("amount", "units"),
    [("0", 0), ("1", 100_000_000), ("0.02", 2_000_000), ("0.00000001", 1), ("15", 1_500_000_000)],
)
def test_money_in_millionths_of_a_cent(amount: str, units: int) -> None:
    assert micro_cents(amount) == units


@pytest.mark.parametrize(
    ("tokens", "per_million", "price"),
    [
        (0, 2_000_000, 0),
        (1, 2_000_000, 2),
        (1, 499_999, 0),
        (1, 500_000, 0),
        (1, 500_001, 1),
        (3, 500_000, 2),
        (5, 500_000, 2),
        (1_000_000, 123, 123),
    ],
)
def test_costs_are_rounded_half_to_even(tokens: int, per_million: int, price: int) -> None:
    assert cost((tokens, per_million)) == price


def test_a_call_is_rounded_once() -> None:
    assert cost((1, 400_000), (1, 400_000), (1, 400_000)) == 1


@pytest.mark.parametrize(
    ("price", "text"),
    [(0, "0.00"), (1, "0.00000001"), (100_000_000, "1.00"), (123_456_000, "1.23456")],
)
def test_money_is_shown_to_the_last_digit(price: int, text: str) -> None:
    assert amount(price) == text
    assert micro_cents(text) == price


@given(st.integers(0, 10**9), st.integers(0, 10**12))
def test_a_cost_is_exact_to_half_a_unit(tokens: int, per_million: int) -> None:
    exact = Decimal(tokens) * per_million / 1_000_000
    assert abs(cost((tokens, per_million)) - exact) <= Decimal("0.5")
