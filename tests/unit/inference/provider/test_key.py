"""Where a key comes from, and where it never shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.inference.adapters.provider.key import NONE, key_of
from shared.errors import Permanent
from tests.unit.inference.provider.questions import row

SECRET = "sk-" + "very-secret"


def test_a_key_comes_from_the_variable_that_the_row_names() -> None:
    key = key_of(row(key="THERE_KEY"), {"THERE_KEY": f" {SECRET}\n"}.get)
    assert key.read() == SECRET
    assert SECRET not in repr(key)
    assert "THERE_KEY" in repr(key)


def test_a_key_file_is_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(SECRET + "\n")
    key = key_of(row(key_file=str(file)), {}.get)
    assert key.read() == SECRET
    file.write_text("another")
    assert key.read() == "another"
    file.unlink()
    with pytest.raises(Permanent) as missing:
        key.read()
    assert (missing.value.code, missing.value.field) == ("missing_key", "key_file")


@pytest.mark.parametrize(
    ("api", "variable"), [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")]
)
def test_a_provider_of_its_own_has_a_variable_of_its_own(api, variable) -> None:
    assert key_of(row(api=api, base_url=None), {variable: SECRET}.get).read() == SECRET
    assert key_of(row(api=api), {variable: SECRET}.get).read() == NONE


@pytest.mark.parametrize("value", [None, "", "  ", "two words", "snow\N{SNOWMAN}", "a\x00b"])
def test_a_variable_without_a_key_is_named(value) -> None:
    with pytest.raises(Permanent) as missing:
        key_of(row(key="THERE_KEY"), lambda _name: value)
    assert (missing.value.code, missing.value.field) == ("missing_key", "key")
    assert "THERE_KEY" in missing.value.detail
    assert not value or not value.strip() or value not in str(missing.value)


def test_a_key_file_with_something_else_in_it_is_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{SECRET}\n{SECRET}")
    with pytest.raises(Permanent) as missing:
        key_of(row(key_file=str(file)), {}.get)
    assert SECRET not in str(missing.value)
