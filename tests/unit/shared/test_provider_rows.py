"""Rows of models behind somebody's endpoint: what is wrong is named, and no key stands in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.local.settings import ROOT
from shared.errors import Permanent
from shared.models import ProviderModel, read_models

GOOD = """
models:
  gpt: {engine: provider, name: gpt-5, context: 200000}
  claude: {engine: provider, api: anthropic, name: claude, key: TEAM_KEY}
  llama:
    engine: provider
    name: llama3.2
    base_url: http://localhost:11434/v1
    lacks: [logprobs]
    timeouts: {first_token: 5}
    headers: {X-Team: agents}
    extra_body: {keep_alive: 10m}
routes:
  default: [gpt, claude, llama]
"""


def read(folder: Path, text: str) -> dict[str, ProviderModel]:
    path = folder / "models.yaml"
    path.write_text(text)
    found = read_models(path).models
    return {name: row for name, row in found.items() if isinstance(row, ProviderModel)}


def test_a_good_file(tmp_path: Path) -> None:
    rows = read(tmp_path, GOOD)
    assert {name: row.key_variable for name, row in rows.items()} == {
        "gpt": "OPENAI_API_KEY",
        "claude": "TEAM_KEY",
        "llama": None,
    }
    assert (rows["llama"].timeouts.first_token, rows["llama"].timeouts.connect) == (5, 10)
    assert rows["llama"].without == {"logprobs"}
    assert rows["claude"].without == {"temperature", "top_p", "top_k"}
    assert rows["gpt"].without == frozenset()


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ("base_url: ftp://there", "base_url"),
        ("base_url: there/v1", "base_url"),
        ("base_url: 'http://u:sk-secret@there/v1'", "base_url"),
        ("base_url: 'http://there/v1?key=sk-secret'", "base_url"),
        ("key: A, key_file: sk-secret", "key_file"),
        ("headers: {Authorization: Bearer sk-secret}", "headers.Authorization"),
        ("headers: {X-Api-Key: sk-secret}", "headers.X-Api-Key"),
        ("extra_body: {model: sk-secret}", "extra_body.model"),
    ],
)
def test_what_makes_no_sense_is_named_and_not_repeated(tmp_path: Path, wrong, field) -> None:
    text = f"models: {{m: {{engine: provider, name: n, {wrong}}}}}\nroutes: {{r: [m]}}"
    with pytest.raises(Permanent) as caught:
        read(tmp_path, text)
    assert (caught.value.code, caught.value.field) == ("invalid_models_file", f"models.m.{field}")
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("key: sk-secret", "key"),
        ("key: gsk_secret", "key"),
        ("api: gemini", "gemini"),
        ("lacks: [speed]", "speed"),
        ("timeouts: {connect: 0}", "connect"),
        ("timeouts: {conect: 1}", "conect"),
        ("path: x", "path"),
        ("max_output: 0", "max_output"),
        ("name: ''", "name"),
    ],
)
def test_what_a_row_cannot_say_is_refused(tmp_path: Path, wrong, hint) -> None:
    text = f"models: {{m: {{engine: provider, name: n, {wrong}}}}}\nroutes: {{r: [m]}}"
    if hint == "name":
        text = text.replace("name: n, ", "")
    with pytest.raises(Permanent) as caught:
        read(tmp_path, text)
    assert caught.value.code == "invalid_models_file"
    assert hint in caught.value.detail
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize("page", ["README.md", "infra/models.yaml"])
def test_the_rows_that_are_shown_are_rows(tmp_path: Path, page) -> None:
    shown = re.findall(r"\{engine: provider.*\}", (ROOT / page).read_text())
    assert len(shown) >= 2
    models = "".join(f"  m{n}: {row}\n" for n, row in enumerate(shown))
    assert len(read(tmp_path, f"models:\n{models}routes: {{r: [m0]}}")) == len(shown)
