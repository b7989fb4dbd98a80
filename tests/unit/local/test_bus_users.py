"""Keys, configuration and certificates of the bus, as `python -m infra.nats` writes them."""

import base64
import shutil
import stat
from pathlib import Path

import nkeys
import orjson
import pytest

from infra.nats.__main__ import main
from infra.nats.callout import Issuer, answer, read_question, signed
from infra.nats.certificates import ensure_certificates
from infra.nats.config import Server, security_text, server_text
from infra.nats.keys import ensure_tenant, new_seed, public_of, read_seed, write_security
from shared.errors import Permanent
from shared.subjects.permissions import GRANTS


def test_every_user_gets_a_seed_that_only_its_owner_reads(tmp_path: Path) -> None:
    security = write_security(tmp_path)
    assert set(security.keys) == {*GRANTS, "admin", "monitor"}
    for user, public in security.keys.items():
        path = tmp_path / "users" / f"{user}.nk"
        assert path.stat().st_mode & 0o777 == 0o600
        assert public_of(read_seed(path)) == public


def test_writing_again_changes_no_key(tmp_path: Path) -> None:
    before = write_security(tmp_path)
    assert write_security(tmp_path) == before


def test_the_configuration_holds_no_seed(tmp_path: Path) -> None:
    write_security(tmp_path)
    text = (tmp_path / "security.conf").read_text()
    for path in (tmp_path / "users").glob("*.nk"):
        assert read_seed(path) not in text


def test_a_damaged_key_is_an_error_and_no_new_key(tmp_path: Path) -> None:
    write_security(tmp_path)
    (tmp_path / "users" / "tools.nk").write_text("nonsense")
    with pytest.raises(Permanent, match="invalid_credentials"):
        write_security(tmp_path)
    assert (tmp_path / "users" / "tools.nk").read_text() == "nonsense"


def test_a_tenant_has_an_account_of_its_own(tmp_path: Path) -> None:
    ensure_tenant(tmp_path, "acme")
    text = security_text(write_security(tmp_path))
    account = text[text.index('"T_acme"') : text.index("SYS {")]
    assert '"tasks.acme.*.*"' in account
    assert "jetstream" not in account
    assert "$JS" not in account


@pytest.mark.parametrize("tenant", ["a.b", "*", "_shared", "ACME", 'x" }', ""])
def test_a_tenants_name_is_checked(tmp_path: Path, tenant: str) -> None:
    ensure_tenant(tmp_path, "acme")
    with pytest.raises(Permanent, match="invalid_name"):
        ensure_tenant(tmp_path, tenant)


def test_the_commands_write_what_a_container_mounts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["write", str(tmp_path), "--tenant", "acme", "--store", "/streams"]) == 0
    assert 'store_dir: "/streams"' in (tmp_path / "server.conf").read_text()
    assert main(["tenant", "globex", "--folder", str(tmp_path)]) == 0
    assert str(tmp_path / "users" / "tenant-globex.nk") in capsys.readouterr().out
    assert '"T_globex"' in (tmp_path / "security.conf").read_text()
    assert main(["tenant", "a.b", "--folder", str(tmp_path)]) == 1
    assert "invalid_name" in capsys.readouterr().err


def test_a_tenants_key_is_told_as_json_and_is_its_owners_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # the second time it is there already, and stays
        assert main(["tenant", "--json", "--folder", str(tmp_path), "acme"]) == 0
    first, second = map(orjson.loads, capsys.readouterr().out.splitlines())
    assert first == second == {
        "file": str(tmp_path / "users" / "tenant-acme.nk"), "known": False, "url": "",
    }  # fmt: skip
    assert stat.S_IMODE(Path(first["file"]).stat().st_mode) == 0o600
    assert read_seed(Path(first["file"])) not in f"{first}"


def test_users_of_a_broker_that_is_not_ours_are_not_made_in_the_data_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MILLRACE_NATS_URL", "nats://elsewhere:4222")
    assert main(["tenant", "acme"]) == 1
    assert "folder_needed" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_login_within_an_address_is_not_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_DATA", str(tmp_path))
    monkeypatch.delenv("MILLRACE_NATS_URL", raising=False)
    (tmp_path / "nats.json").write_text('{"url": "nats://u:geheim@127.0.0.1:1", "token": "geheim"}')
    assert main(["tenant", "acme"]) == 0
    assert "geheim" not in capsys.readouterr().out


def test_tls_is_asked_of_clients_too() -> None:
    text = server_text(Server(tls=Path("/etc/nats/tls")))
    assert 'cert_file: "/etc/nats/tls/server.pem"' in text
    assert "verify: true" in text
    assert "tls" not in server_text(Server())


def test_a_setting_cannot_smuggle_lines_into_the_file() -> None:
    with pytest.raises(ValueError, match="MILLRACE_SYNC"):
        server_text(Server(sync="1s\nauthorization {}"))
    assert '"a\\nb"' in server_text(Server(store="a\nb"))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is not installed")
def test_certificates_are_made_once_and_kept_private(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, ["localhost", "127.0.0.1"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {"ca.pem", "server.pem", "server.key", "client.pem", "client.key"} <= set(before)
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.glob("*.key"))
    ensure_certificates(tmp_path, ["localhost"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("host", ["", "a,IP:1.2.3.4", "a b", "x\ny"])
def test_a_hosts_name_is_checked(tmp_path: Path, host: str) -> None:
    with pytest.raises(Permanent, match="invalid_host"):
        ensure_certificates(tmp_path, [host])


ISSUER = Issuer(new_seed(nkeys.PREFIX_BYTE_ACCOUNT), "the-token")


def asked(token: str) -> bytes:
    claims = {
        "nats": {
            "user_nkey": "UUSER",
            "server_id": {"id": "NSERVER"},
            "connect_opts": {"auth_token": token},
        }
    }
    return signed(claims, new_seed(), 0.0)


def claims_of(jwt: bytes) -> dict:
    part = jwt.split(b".")[1]
    return orjson.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))


def test_whoever_has_the_token_belongs_to_the_system() -> None:
    said = claims_of(answer(read_question(asked("the-token")), ISSUER, 1.0))
    assert (said["sub"], said["aud"]) == ("UUSER", "NSERVER")
    user = claims_of(said["nats"]["jwt"].encode())
    assert (user["sub"], user["aud"], user["iss"]) == ("UUSER", "MILLRACE", public_of(ISSUER.seed))


@pytest.mark.parametrize("token", ["", "wrong", "the-token "])
def test_nobody_else_does(token: str) -> None:
    said = claims_of(answer(read_question(asked(token)), ISSUER, 1.0))["nats"]
    assert "jwt" not in said
    assert said["error"] == "unknown token"


def test_a_token_that_is_empty_lets_nobody_in() -> None:
    said = claims_of(answer(read_question(asked("")), Issuer(ISSUER.seed, ""), 1.0))["nats"]
    assert "jwt" not in said


@pytest.mark.parametrize("body", [b"", b"a.b.c", b"a.e30.c", b"a.W10.c"])
def test_what_is_no_question_is_an_error(body: bytes) -> None:
    with pytest.raises(Permanent, match="invalid_message"):
        read_question(body)


def test_no_secret_is_printed() -> None:
    assert ISSUER.seed not in repr(ISSUER)
    assert "the-token" not in repr(ISSUER)
    assert "the-token" not in repr(read_question(asked("the-token")))
