"""The command line: what it takes, and that wrong arguments are typed errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.__main__ import main, within_reach
from loadtests.options import parse
from loadtests.plan import Tenant
from loadtests.profiles import PROFILES, only
from shared.errors import Permanent


def test_without_arguments_it_is_the_short_profile() -> None:
    found = parse([])
    assert found.profile == PROFILES["short"]
    assert [tenant.name for tenant in found.tenants] == ["load-1", "load-2"]
    assert found.url == ""


def test_what_is_named_replaces_what_the_profile_says() -> None:
    words = "--profile spike --users 9 --seconds 2.5 --pause 0 --url http://host:81/"
    found = parse([*words.split(), "--only", "chat, search"])
    profile = found.profile
    assert (profile.users, profile.seconds, profile.pause) == (9, 2.5, 0)
    assert profile.mix == {"chat": 1, "search": 1}
    assert profile.curve == "spike"
    assert (found.url, found.tenants) == ("http://host:81", (Tenant("default"),))


def test_keys_bring_their_tenants(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("acme mk_1\n\nother mk_2\n")
    found = parse(["--keys", str(path)])
    assert found.tenants == (Tenant("acme", "mk_1"), Tenant("other", "mk_2"))
    assert found.profile.tenants == 2


@pytest.mark.parametrize(
    ("argv", "code", "field"),
    [
        (["--profile", "nothing"], "unknown_profile", "profile"),
        (["--only", "sing"], "unknown_operation", "mix"),
        (["--users", "many"], "invalid_number", "users"),
        (["--users", "2.5"], "invalid_number", "users"),
        (["--users", "0"], "invalid_profile", "users"),
        (["--seconds", "nan"], "invalid_profile", "seconds"),
        (["--seconds", "inf"], "invalid_profile", "seconds"),
        (["--seconds", "-1"], "invalid_profile", "seconds"),
        (["--tenants", "0"], "invalid_profile", "tenants"),
        (["--url", "localhost:8080"], "invalid_url", "url"),
        (["--url", "http://me:secret@host"], "invalid_url", "url"),
        (["--keys", "/nowhere/keys"], "invalid_keys", "keys"),
    ],
)
def test_a_wrong_argument_is_named(argv: list[str], code: str, field: str) -> None:
    with pytest.raises(Permanent) as caught:
        parse(argv)
    assert (caught.value.code, caught.value.field) == (code, field)


@pytest.mark.parametrize("text", ["", "acme\n", "acme mk_1 more\n"])
def test_a_file_without_keys_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(Permanent, match="invalid_keys"):
        parse(["--keys", str(path)])


def test_a_key_stays_out_of_the_error_and_of_prints(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("acme mk_secret more\n")
    with pytest.raises(Permanent) as caught:
        parse(["--keys", str(path)])
    assert "mk_secret" not in str(caught.value)
    assert "mk_secret" not in repr(Tenant("acme", "mk_secret"))


def test_without_a_broker_what_needs_one_is_left_out() -> None:
    short = PROFILES["short"]
    assert within_reach(short, nats=True) == short
    assert set(within_reach(short, nats=False).mix) == set(short.mix) - {"nats_task"}
    with pytest.raises(Permanent, match="no_operations"):
        within_reach(only(short, ("nats_task",)), nats=False)


def test_a_wrong_argument_ends_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["loadtests", "--profile", "nothing"])
    assert main() == 2
    assert "unknown_profile: no profile 'nothing'" in capsys.readouterr().err
