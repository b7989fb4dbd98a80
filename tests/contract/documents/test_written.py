"""`python -m infra.docs`: what it writes, and the OpenAPI document by its own standard."""

from __future__ import annotations

import sys
from pathlib import Path

import orjson
import pytest
import schemathesis

from infra.docs.__main__ import documents, main


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    return documents()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["infra.docs", *arguments])
    return main()


def test_both_documents_are_written(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    made: dict[str, bytes],
) -> None:
    folder = tmp_path / "new" / "docs"
    assert run(monkeypatch, "--to", str(folder)) == 0
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert written == made
    assert set(capsys.readouterr().out.split()) == {str(folder / name) for name in written}
    versions = {orjson.loads(body)["info"]["version"] for body in written.values()}
    assert len(versions) == 1


def test_a_folder_that_cannot_be_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert run(monkeypatch, "--to", str(file / "docs")) == 1
    said = capsys.readouterr().err
    assert "folder_not_writable" in said
    assert "--to" in said


def test_the_openapi_document_is_valid(made: dict[str, bytes]) -> None:
    written = orjson.loads(made["openapi.json"])
    schemathesis.openapi.from_dict(written).validate()
    assert {"/v1/tasks", "/v1/chat/completions", "/v1/sessions/{session}"} <= written[
        "paths"
    ].keys()


def test_an_openapi_document_with_a_mistake_is_not(made: dict[str, bytes]) -> None:
    written = orjson.loads(made["openapi.json"])
    written["paths"]["/v1/tasks"]["post"]["responses"] = 7
    with pytest.raises(Exception, match="not of type"):
        schemathesis.openapi.from_dict(written).validate()
