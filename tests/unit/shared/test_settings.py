"""A misspelt setting is an error, and a secret is never shown."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest
from pydantic import ValidationError

import services
from shared.errors import Permanent, Transient
from shared.settings import KNOWN, PREFIX, Address, BusSettings, Place, Tls, masked, unknown_names


def test_names_that_nobody_knows_are_found() -> None:
    environment = {
        "MILLRACE_NATS_URL": "x",
        "MILLRACE_NATS_ULR": "x",
        "MILLRACE_": "x",
        "millrace_data": "x",
        "PATH": "x",
        "XMILLRACE_FOO": "x",
    }
    assert unknown_names(environment) == ["MILLRACE_", "MILLRACE_NATS_ULR"]


def test_every_known_name_is_accepted() -> None:
    assert unknown_names({PREFIX + name: "x" for name in KNOWN}) == []


def test_a_misspelt_name_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_NATS_ULR", "x")
    with pytest.raises(Permanent) as caught:
        BusSettings()
    assert (caught.value.code, caught.value.field) == ("unknown_setting", "MILLRACE_NATS_ULR")


def test_a_secret_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "millrace_nats_token").write_text("geheim\n")
    (tmp_path / "millrace_nats_url").write_text("nats://127.0.0.1:4222")
    monkeypatch.setenv("MILLRACE_SECRETS", str(tmp_path))
    found = BusSettings()
    assert (found.address().token, found.address().url) == ("geheim", "nats://127.0.0.1:4222")
    assert "geheim" not in masked(found)


def test_the_environment_goes_before_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "millrace_nats_url").write_text("nats://127.0.0.1:1")
    monkeypatch.setenv("MILLRACE_SECRETS", str(tmp_path))
    monkeypatch.setenv("MILLRACE_NATS_URL", "nats://127.0.0.1:2")
    assert BusSettings().address().url == "nats://127.0.0.1:2"


def test_a_folder_of_secrets_that_is_not_there_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_SECRETS", str(tmp_path / "nowhere"))
    with pytest.raises(Permanent) as caught:
        BusSettings()
    assert (caught.value.code, caught.value.field) == ("no_secrets_folder", "MILLRACE_SECRETS")


def test_without_a_system_the_error_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(Transient) as caught:
        BusSettings(data=tmp_path, nats_url=None).address()
    assert caught.value.code == "no_broker"
    assert "make run" in caught.value.detail


def test_the_running_system_is_found_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "nats.json").write_text('{"url": "nats://127.0.0.1:4222", "token": "geheim"}')
    address = BusSettings(data=tmp_path, nats_url=None).address()
    assert (address.url, address.token) == ("nats://127.0.0.1:4222", "geheim")
    assert "geheim" not in repr(address)


@pytest.mark.parametrize("body", ["", "{", "[]", "{}", '{"url": "nats://127.0.0.1:1"}', "3"])
def test_a_damaged_file_is_no_system(tmp_path: Path, body: str) -> None:
    (tmp_path / "nats.json").write_text(body)
    with pytest.raises(Transient) as caught:
        BusSettings(data=tmp_path, nats_url=None).address()
    assert caught.value.code == "no_broker"


def test_the_running_system_says_whom_to_trust(tmp_path: Path) -> None:
    (tmp_path / "nats.json").write_text('{"url": "nats://x:1", "token": "t", "ca": "/d/ca.pem"}')
    found = BusSettings(data=tmp_path, nats_url=None).address()
    assert found.tls == Tls(Path("/d/ca.pem"))
    own = BusSettings(data=tmp_path, nats_url=None, nats_ca=Path("/own.pem")).address()
    assert own.tls == Tls(Path("/own.pem"))


def test_secrets_are_masked() -> None:
    assert "geheim" not in masked(BusSettings(nats_token="geheim"))  # noqa: S106  # the point
    assert "geheim" not in repr(Address("nats://x", "geheim", None))


def test_a_cluster_is_several_servers_and_a_number_of_replicas() -> None:
    settings = BusSettings(nats_url="nats://a:1, nats://b:2,", stream_replicas=3)
    address = settings.address()
    assert address.servers == ["nats://a:1", "nats://b:2"]
    assert address.replicas == 3


@pytest.mark.parametrize("replicas", [0, 6, "many"])
def test_the_number_of_replicas_is_one_to_five(replicas: object) -> None:
    with pytest.raises(ValidationError):
        BusSettings(stream_replicas=replicas)  # type: ignore[arg-type]  # the point


SERVICES = [one.name for one in pkgutil.iter_modules(services.__path__)]


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_of_a_service_can_be_set(service: str) -> None:
    """A name that is missing among the known ones is refused as misspelt, by every service."""
    module = importlib.import_module(f"services.{service}.settings")
    classes = [
        one
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, BusSettings)
    ]
    names = {name.upper() for one in classes for name in one.model_fields}
    assert names
    assert names <= KNOWN


@pytest.mark.parametrize(("text", "port"), [("off", "off"), ("0", 0), ("9464", 9464)])
def test_a_process_shows_how_it_is_on_a_port_or_not_at_all(
    text: str, port: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_METRICS_PORT", text)
    assert BusSettings().metrics_place() == Place("127.0.0.1", port, Path(".millrace"))


@pytest.mark.parametrize("text", ["-1", "65536", "on"])
def test_other_words_are_no_port(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_METRICS_PORT", text)
    with pytest.raises(ValidationError):
        BusSettings()
