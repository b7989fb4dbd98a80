"""The size gates that ruff has no rule for, and a docstring for every module (style.md, 29-31)."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAX_FILE, MAX_FUNCTION = 600, 60
LABELLESS = {"utils.py", "helpers.py", "common.py"}


@cache
def modules() -> dict[str, str]:
    return {
        str(path.relative_to(ROOT)): path.read_text()
        for package in ("services", "shared", "infra", "loadtests", "tests")
        for path in sorted((ROOT / package).rglob("*.py"))
    }


@cache
def trees() -> dict[str, ast.Module]:
    return {name: ast.parse(text) for name, text in modules().items()}


def test_no_file_is_too_long() -> None:
    assert not [n for n, text in modules().items() if len(text.splitlines()) > MAX_FILE]


def test_no_function_is_too_long() -> None:
    assert not [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno >= MAX_FUNCTION
    ]


def test_every_module_with_code_says_what_it_owns() -> None:
    assert not [n for n, tree in trees().items() if tree.body and not ast.get_docstring(tree)]


def test_no_module_is_a_drawer_without_a_label() -> None:
    names = {name: Path(name).name for name in modules()}
    assert not [n for n, file in names.items() if file in LABELLESS or file.startswith("base_")]
