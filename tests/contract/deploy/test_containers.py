"""`make up` and `make down`: what they tell Docker, and what they say where there is none.

The engine is a script that writes down how it was called: a real one is on no machine of ours.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from infra.containers import secrets
from infra.containers.__main__ import PROFILES, for_demo, main, read
from infra.local.settings import LocalSettings
from services.cli.handlers.application import build
from tests.contract.deploy.compose_checks import ROOT
from tests.contract.deploy.needs import OPENSSL

pytestmark = OPENSSL

SCRIPT = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$*" in *"$FAIL_AT"*) exit 1 ;; esac
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of the path, with a `docker` that notes its calls and fails where told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "docker"
    script.write_text(SCRIPT)
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("FAIL_AT", "nowhere")
    monkeypatch.setenv("MILLRACE_DATA", str(tmp_path / "data"))
    return tmp_path


def calls(engine: Path) -> list[str]:
    """What was said to Docker beside the questions whether it is there."""
    return [line for line in (engine / "calls").read_text().splitlines() if "project" in line]


def written(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, as it is called from there."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


Captured = pytest.CaptureFixture[str]


def test_up_builds_and_waits_until_all_is_well(engine: Path, capsys: Captured) -> None:
    assert main(["up", "--no-demo"]) == 0
    (said,) = calls(engine)
    assert said.startswith(f"compose --project-directory {ROOT} up --build --detach --wait")
    said = capsys.readouterr().out
    assert "keys create --admin" in said
    known = {command.name for command in build().registered_commands}
    assert set(re.findall(r"bin/millrace (\w+)", said)) == {"workers"} <= known
    assert set(written(engine / "data" / "containers")) == secrets.names()


def test_the_cluster_brings_its_variables_along(engine: Path) -> None:
    main(["up", "--no-demo", "--profile", "cluster", "--profile", "gpu"])
    (said,) = calls(engine)
    assert f"--env-file {ROOT / 'infra/docker/cluster.env'} --profile cluster --profile gpu" in said


def test_down_ends_every_profile_and_keeps_the_data(engine: Path) -> None:
    assert main(["down"]) == 0
    assert main(["down", "--volumes"]) == 0
    kept, gone = calls(engine)
    for profile in PROFILES:
        assert f"--profile {profile}" in kept
    assert "--volumes" not in kept
    assert gone.endswith("down --remove-orphans --volumes")


@pytest.mark.parametrize(
    ("fail_at", "says"),
    [
        ("compose version", "docker-compose-plugin"),
        ("info", "systemctl start docker"),
        ("--wait", "docker compose logs NAME"),
    ],
)
def test_what_is_missing_is_said(
    engine: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, fail_at: str, says: str
) -> None:
    monkeypatch.setenv("FAIL_AT", fail_at)
    assert main(["up"]) == 1
    assert says in capsys.readouterr().err


def test_without_docker_it_says_what_to_do(
    engine: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    (engine / "bin" / "docker").unlink()
    monkeypatch.setenv("PATH", str(engine / "bin"))
    assert main(["up"]) == 1
    assert "make run" in capsys.readouterr().err
    assert not (engine / "calls").exists()


def test_secrets_are_kept_and_what_follows_from_them_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "containers"
    secrets.write(folder)
    first = written(folder)
    assert set(first) == secrets.names()
    assert len(set(first.values())) == len(first)
    (folder / "postgres_password").write_text("p@ss/word\n")
    secrets.write(folder)
    second = written(folder)
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"postgres_password", "millrace_database_url"}
    assert b":p%40ss%2Fword@postgres:5432/" in second["millrace_database_url"]


def test_how_to_log_in_to_somebody_elses_database_is_not_touched(tmp_path: Path) -> None:
    secrets.write(tmp_path, secrets.PODS, stores=False)
    assert "millrace_database_url" not in {path.name for path in tmp_path.iterdir()}
    (tmp_path / "millrace_database_url").write_text("theirs")
    secrets.write(tmp_path, secrets.PODS, stores=False)
    assert (tmp_path / "millrace_database_url").read_text() == "theirs"
    assert "@nats-2.nats:6222" in (tmp_path / "nats_routes.conf").read_text()


def test_the_secrets_of_kubernetes_have_a_folder_of_their_own(
    engine: Path, capsys: Captured
) -> None:
    assert main(["secrets", "--kubernetes"]) == 0
    folder = engine / "data" / "kubernetes"
    assert capsys.readouterr().out == f"{folder}\n"
    assert (folder / "security.conf").exists()


def test_a_setting_that_cannot_be_read_is_said(
    engine: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("MILLRACE_HTTP_PORT", "many")
    assert main(["up"]) == 1
    assert "MILLRACE_HTTP_PORT: " in capsys.readouterr().err


def test_only_their_owner_reaches_the_secrets_and_every_container_can_read_its_own(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "containers"
    secrets.write(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [path for path in folder.rglob("*") if path.is_file()]
    closed = [path.name for path in files if stat.S_IMODE(path.stat().st_mode) != 0o644]
    assert closed == ["ca.key"]
    assert stat.S_IMODE((folder / "tls" / "ca.key").stat().st_mode) == 0o600


def test_the_certificate_is_for_every_name_that_a_server_is_called_by(tmp_path: Path) -> None:
    secrets.write(tmp_path, secrets.PODS, stores=False)
    show = ("openssl", "x509", "-in", str(tmp_path / "tls" / "server.pem"), "-noout", "-text")
    found = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    for name in (*secrets.PODS, "localhost"):
        assert f"DNS:{name}" in found
    assert "IP Address:127.0.0.1" in found
    assert "TLS Web Client Authentication" in found  # of the other servers of a cluster


def test_no_container_is_given_a_seed_by_the_servers_configuration(tmp_path: Path) -> None:
    secrets.write(tmp_path)
    text = (tmp_path / "security.conf").read_text()
    assert "nkey: U" in text
    for path in (tmp_path / "users").iterdir():
        assert path.read_text().split()[-1] not in text


def test_the_demo_is_led_to_the_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_NATS_TOKEN", "of another system")
    monkeypatch.setenv("MILLRACE_SECRETS", str(tmp_path))
    secrets.write(tmp_path / "containers")
    found = for_demo(LocalSettings(data=tmp_path))
    assert found["MILLRACE_NATS_URL"] == "nats://127.0.0.1:4222"
    assert Path(found["MILLRACE_NATS_CREDS"]).read_text().startswith("# user: admin\n")
    assert Path(found["MILLRACE_NATS_CA"]).is_file()
    assert not {"MILLRACE_NATS_TOKEN", "MILLRACE_SECRETS"} & set(found)
    assert found["PATH"] == os.environ["PATH"]  # noqa: TID251


@pytest.mark.parametrize("arguments", [[], ["up", "--profile", "cuda"], ["dwon"]])
def test_a_misspelt_command_is_refused(arguments: list[str], capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        read(arguments)
    assert "usage" in capsys.readouterr().err
