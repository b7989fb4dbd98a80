"""A site and its hub by commands: the key of the link, and who the streams are joined to."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from infra.nats.__main__ import main
from infra.nats.joining import Neighbours, neighbours
from infra.nats.keys import hub_of, read_seed, write_security
from shared.errors import Permanent
from shared.subjects.sites import link_permissions

MONITOR = "http://hub:8222"


def site(folder: Path, *arguments: str) -> int:
    return main(["site", "--folder", str(folder), *arguments])


def test_a_site_is_a_user_for_its_link_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["write", str(tmp_path)]) == 0
    capsys.readouterr()
    assert site(tmp_path, "edge", "--hub", "head", "--json") == 0
    told = orjson.loads(capsys.readouterr().out)
    path = tmp_path / "users" / "site-edge.nk"
    assert told == {"file": str(path), "known": False, "hub": "head"}
    assert path.stat().st_mode & 0o077 == 0
    text = (tmp_path / "security.conf").read_text()
    assert text.count("LEAFNODE") == 1
    assert all(subject in text for subject in link_permissions("edge", "head").publish)
    assert read_seed(path) not in text


def test_a_second_site_knows_the_hub_by_the_same_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert site(tmp_path, "edge", "--hub", "head") == 0
    before = (tmp_path / "users" / "site-edge.nk").read_bytes()
    assert site(tmp_path, "yard") == 0
    said = capsys.readouterr().out
    assert "--copies-of yard" in said
    assert "--site yard --hub head" in said
    assert site(tmp_path, "other", "--hub", "hat") == 1
    assert "invalid_name" in capsys.readouterr().err
    assert write_security(tmp_path).sites == ("edge", "yard")
    assert hub_of(tmp_path) == "head"
    assert (tmp_path / "users" / "site-edge.nk").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["edge"], "hub_needed"), (["7", "--hub", "head"], "invalid_name"),
     (["edge", "--hub", "a.b"], "invalid_name")],
)  # fmt: skip
def test_what_cannot_be_a_site_is_refused_and_nothing_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: str
) -> None:
    assert site(tmp_path, *arguments) == 1
    assert code in capsys.readouterr().err
    assert not list(tmp_path.rglob("site-*"))
    assert hub_of(tmp_path) == ""


def test_who_is_named_is_joined() -> None:
    assert neighbours([], "", "", [], followed=True) is None
    found = neighbours(["edge", "yard"], "", "", [MONITOR], followed=True)
    assert found == Neighbours(copies=("edge", "yard"), monitors=(MONITOR,))
    found = neighbours([], "edge", "head", [], followed=False)
    assert found == Neighbours(site="edge", hub="head")


@pytest.mark.parametrize(
    ("copies", "site", "hub", "code", "field"),
    [
        ((), "edge", "", "hub_needed", "hub"),
        ((), "", "head", "hub_needed", "site"),
        (("7",), "", "", "invalid_name", "site"),
        (("edge",), "", "", "monitor_needed", "monitor"),
    ],
)
def test_what_cannot_be_followed_is_refused(
    copies: tuple[str, ...], site: str, hub: str, code: str, field: str
) -> None:
    with pytest.raises(Permanent) as refused:
        neighbours(copies, site, hub, [], followed=True)
    assert (refused.value.code, refused.value.field) == (code, field)


def test_the_command_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topology", "--keep", "--copies-of", "edge"]) == 1
    assert "monitor_needed" in capsys.readouterr().err
