"""Seeds, credentials and certificates: who a process is, and that its secret stays inside."""

from pathlib import Path

import pytest

from infra.nats.keys import new_seed, public_of
from shared.bus.login import login_of, seed_file
from shared.errors import Permanent
from shared.settings import Address, BusSettings, Tls


def at(path: Path | None, token: str | None = None) -> Address:
    return Address("nats://127.0.0.1:4222", token, path)


def test_a_seed_file_says_who_it_is_whatever_it_is_called(tmp_path: Path) -> None:
    seed = new_seed()
    (tmp_path / "mounted-secret").write_bytes(seed_file("tools", seed))
    login = login_of(at(tmp_path / "mounted-secret"), "anything")
    assert (login.user, login.seed, login.inbox) == ("tools", seed, "_INBOX.tools")
    assert not login.deploys
    assert login.options()["nkeys_seed_str"] == seed


def test_without_a_comment_the_files_name_is_the_user(tmp_path: Path) -> None:
    (tmp_path / "admin.nk").write_text(new_seed())
    login = login_of(at(tmp_path / "admin.nk"), "anything")
    assert login.user == "admin"
    assert login.deploys


def test_each_takes_its_own_of_a_folder(tmp_path: Path) -> None:
    for user in ("tools", "ledger"):
        (tmp_path / f"{user}.nk").write_bytes(seed_file(user, new_seed()))
    assert login_of(at(tmp_path), "ledger").user == "ledger"


def test_a_file_with_a_jwt_is_left_to_the_client_library(tmp_path: Path) -> None:
    path = tmp_path / "user.creds"
    path.write_text("-----BEGIN NATS USER JWT-----\neyJ0\n------END NATS USER JWT------\n")
    login = login_of(at(path), "client")
    assert login.options() == {"inbox_prefix": "_INBOX", "user_credentials": str(path)}


def test_a_token_is_enough_on_a_server_without_users() -> None:
    login = login_of(at(None, "secret"), "sessions")
    assert login.deploys
    assert login.options() == {"inbox_prefix": "_INBOX", "token": "secret"}


@pytest.mark.parametrize("body", [b"SUTOOSHORT", b"", b"\xff\xfe", b"# user: tools\n"])
def test_a_file_without_a_seed_is_an_error_that_does_not_quote_it(
    tmp_path: Path, body: bytes
) -> None:
    (tmp_path / "tools.nk").write_bytes(body)
    with pytest.raises(Permanent) as caught:
        login_of(at(tmp_path / "tools.nk"), "tools")
    assert caught.value.code == "invalid_credentials"
    assert caught.value.field == "MILLRACE_NATS_CREDS"
    assert "TOOSHORT" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"tools\.nk cannot be read"):
        login_of(at(tmp_path), "tools")


def test_no_secret_is_printed(tmp_path: Path) -> None:
    seed = new_seed()
    (tmp_path / "tools.nk").write_bytes(seed_file("tools", seed))
    for login in (login_of(at(tmp_path), "tools"), login_of(at(None, "a-token"), "tools")):
        assert seed not in repr(login)
        assert "a-token" not in repr(login)
    assert public_of(seed).startswith("U")


def test_unusable_certificates_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    address = Address("tls://localhost:4222", None, None, tls=Tls(tmp_path / "ca.pem"))
    with pytest.raises(Permanent, match="invalid_tls"):
        login_of(address, "tools")


def test_own_credentials_go_before_the_token_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "nats.json").write_text('{"url": "nats://127.0.0.1:1", "token": "t"}')
    address = BusSettings(data=tmp_path, nats_creds=tmp_path / "tools.nk").address()
    assert (address.token, address.creds) == (None, tmp_path / "tools.nk")
