"""`millrace keys nats`: the file on standard output, how it is used beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.adapters.launch import _refusal
from services.cli.ports import BusKey
from shared.errors import Permanent
from tests.unit.cli.conftest import Cli

FILE = Path("/data/nats/users/tenant-acme.nk")


def test_the_file_can_be_piped_and_its_use_is_said(cli: Cli) -> None:
    cli.launch.key = BusKey(FILE, known=True, url="nats://127.0.0.1:4222")
    outcome = cli("--tenant", "acme", "keys", "nats")
    assert (outcome.code, outcome.out) == (0, f"{FILE}\n")
    assert f"MILLRACE_NATS_URL=nats://127.0.0.1:4222 MILLRACE_NATS_CREDS={FILE}" in outcome.err
    assert "connect(tenant='acme')" in outcome.err
    assert cli.launch.asked == [(cli.place, "acme", None)]


def test_without_a_name_it_is_the_key_of_the_default_tenant(cli: Cli) -> None:
    cli.launch.key = BusKey(FILE, known=True)
    assert cli("keys", "nats", "--json").json()["tenant"] == "default"
    assert [tenant for _, tenant, _ in cli.launch.asked] == ["default"]


def test_a_server_that_has_not_read_it_yet_is_told_of(cli: Cli, tmp_path: Path) -> None:
    cli.launch.key = BusKey(FILE, known=False)
    outcome = cli("--tenant", "acme", "keys", "nats", "--folder", str(tmp_path))
    assert "once it has read security.conf" in outcome.err
    assert cli.launch.asked[0][2] == tmp_path


def test_as_json(cli: Cli) -> None:
    cli.launch.key = BusKey(FILE, known=False)
    found = cli("--tenant", "acme", "keys", "nats", "--json").json()
    assert found == {"tenant": "acme", "file": str(FILE), "known": False, "url": ""}


@pytest.mark.parametrize(
    ("code", "status"), [("invalid_name", 2), ("folder_needed", 2), ("invalid_credentials", 1)]
)
def test_a_refusal_is_one_line(cli: Cli, code: str, status: int) -> None:
    cli.launch.key = Permanent(code, "this is wrong")
    outcome = cli("keys", "nats")
    assert (outcome.code, outcome.out) == (status, "")
    assert "this is wrong" in outcome.err


@pytest.mark.parametrize(
    ("said", "code", "detail"),
    [
        (
            "infra.nats: invalid_name: a tenant: is lower case\n",
            "invalid_name",
            "a tenant: is lower",
        ),
        ("a warning\ninfra.nats: folder_needed: say where", "folder_needed", "say where"),
        ("Traceback ...\nValueError: x", "no_key", "ValueError: x"),
        ("", "no_key", "nothing"),
    ],
)
def test_what_the_program_says_is_an_error_of_ours(said: str, code: str, detail: str) -> None:
    error = _refusal(said)
    assert error.code == code
    assert detail in error.detail
