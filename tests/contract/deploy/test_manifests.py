"""The manifests of infra/k8s, rendered: true to the schemas, to the code and to each other."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.containers import secrets
from infra.local.plan import SERVICES
from shared.bus.login import login_of
from shared.settings import PREFIX
from tests.contract.deploy import manifest_checks
from tests.contract.deploy.compose_checks import ROOT, user_of
from tests.contract.deploy.manifest_checks import CHECKS, SECRETS, schemas
from tests.contract.deploy.manifests import (
    OVERLAYS,
    Doc,
    container,
    is_ours,
    named,
    of,
    pod,
    rendered,
    settings_of,
    workloads,
)
from tests.contract.deploy.needs import OPENSSL
from tests.contract.deploy.network import may, other, ours
from tests.contract.deploy.test_compose import settings_of as settings_class

K8S = ROOT / "infra" / "k8s"
QUICK = [check for check in CHECKS if check is not schemas]


@pytest.mark.parametrize("check", QUICK, ids=lambda check: check.__name__)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_manifests_agree_with_the_code(overlay: str, check: Any) -> None:
    assert list(check(rendered(overlay))) == []


def test_kubernetes_takes_every_object() -> None:
    """Of the overlay with everything; the plain one is the same with less."""
    docs = rendered("full")
    assert list(schemas(docs)) == []
    assert {doc["kind"] for doc in rendered("plain")} <= {doc["kind"] for doc in docs}


Change = Callable[[list[Doc]], object]


def in_container(name: str, **fields: Any) -> Change:
    return lambda docs: container(named(docs, "Deployment", name)).update(fields)


def in_pod(name: str, **fields: Any) -> Change:
    return lambda docs: pod(named(docs, "Deployment", name)).update(fields)


def in_spec(kind: str, name: str, **fields: Any) -> Change:
    return lambda docs: named(docs, kind, name)["spec"].update(fields)


def variable(name: str, key: str, value: str) -> Change:
    return lambda docs: (
        container(named(docs, "Deployment", name))
        .setdefault("env", [])
        .append({"name": key, "value": value})
    )


def trigger(name: str, **fields: Any) -> Change:
    return lambda docs: named(docs, "ScaledObject", name)["spec"]["triggers"][0]["metadata"].update(
        fields
    )


def mounting(name: str, *more: str) -> Change:
    """These secrets beside its own; none at all where none is given."""

    def change(docs: list[Doc]) -> None:
        (found,) = [
            one
            for one in pod(named(docs, "Deployment", name))["volumes"]
            if one["name"] == "secrets"
        ]
        sources = found["projected"]["sources"]
        sources[:] = [*sources, *({"secret": {"name": one}} for one in more)] if more else []

    return change


def probe(name: str, kind: str, **fields: Any) -> Change:
    return lambda docs: container(named(docs, "Deployment", name))[kind].update(fields)


def without(kind: str, name: str) -> Change:
    return lambda docs: docs.remove(named(docs, kind, name))


NOBODY = {"matchLabels": {"app.kubernetes.io/name": "nobody"}}
BAD: dict[str, tuple[str, Change, str]] = {
    "a service is missing": ("services", without("Deployment", "ledger"), "ledger"),
    "a size said twice": ("services", in_spec("Deployment", "tools", replicas=2), "said twice"),
    "only one": ("services", in_spec("StatefulSet", "nats", replicas=1), "only one"),
    "a misspelt setting": ("environment", variable("tools", "MILLRACE_DTAA", "x"), "MILLRACE_DTAA"),
    "a secret in the open": (
        *("environment", variable("ledger", "MILLRACE_DATABASE_URL", "x")),
        "is a secret",
    ),
    "links of services": ("environment", in_pod("tools", enableServiceLinks=True), "Services of"),
    "an image that moves": ("images", in_container("tools", image="millrace:latest"), "latest"),
    "a secret that nobody makes": (
        "references",
        lambda docs: pod(named(docs, "Deployment", "tools"))["volumes"][0].update(
            projected={"sources": [{"secret": {"name": "other"}}]}
        ),
        "secret other",
    ),
    "a volume that is not there": ("references", in_pod("tools", volumes=[]), "not there"),
    "a configuration of old": (
        "references",
        lambda docs: docs.remove(next(of(docs, "ConfigMap"))),
        "nobody makes the configMap",
    ),
    "another one's key": (
        *("users", mounting("tools", "millrace-bus-admin")),
        "it has the keys ['millrace-bus-tools', 'millrace-bus-admin']",
    ),
    "no key": ("users", mounting("tools"), "it has the keys []"),
    "no authority": (
        *("users", variable("tools", "MILLRACE_NATS_CA", "/etc/ssl/ca.pem")),
        "MILLRACE_NATS_CA is not where",
    ),
    "the key of the certificate": (
        *("users", mounting("tools", "millrace-nats")),
        "the key of the bus's certificate",
    ),
    "no probe": ("probes", in_container("tools", livenessProbe={}), "no livenessProbe"),
    "a port that is not there": (
        *("probes", probe("tools", "livenessProbe", httpGet={"path": "/healthz", "port": "http"})),
        "a port that is not there",
    ),
    "a broker that is away ends everybody": (
        *(
            "probes",
            probe("tools", "livenessProbe", httpGet={"path": "/readyz", "port": "metrics"}),
        ),
        "livenessProbe asks /readyz",
    ),
    "ready when it lives": (
        "probes",
        probe("tools", "readinessProbe", httpGet={"path": "/healthz", "port": "metrics"}),
        "only lives",
    ),
    "a budget of nobody": (
        *("selectors", in_spec("PodDisruptionBudget", "tools", selector=NOBODY)),
        "selects []",
    ),
    "no budget": ("selectors", without("PodDisruptionBudget", "nats"), "no budget"),
    "a Service of nobody": (
        *("selectors", in_spec("Service", "ingress", selector=NOBODY["matchLabels"])),
        "leads nowhere",
    ),
    "a port of nobody": (
        "selectors",
        in_spec("Service", "ingress", ports=[{"name": "http", "port": 80, "targetPort": "web"}]),
        "no port web",
    ),
    "a monitor of nobody": (
        *("selectors", in_spec("ServiceMonitor", "millrace", selector=NOBODY)),
        "finds no such port",
    ),
    "root": ("security", in_pod("tools", securityContext={"runAsUser": 0}), "may be root"),
    "a writable root": (
        *("security", in_container("tools", securityContext={"capabilities": {"drop": ["ALL"]}})),
        "can be written",
    ),
    "a key to the cluster": (
        *("security", in_pod("tools", automountServiceAccountToken=True)),
        "a key to the cluster",
    ),
    "nobody knows what it needs": ("security", in_container("tools", resources={}), "it needs"),
    "no time to stop": (
        *("stopping", in_pod("ingress", terminationGracePeriodSeconds=20)),
        "ingress: it is killed",
    ),
    "callers are not told": ("stopping", in_container("ingress", lifecycle={}), "leaves before"),
    "no time to load": (
        *("stopping", probe("inference-gpu", "startupProbe", failureThreshold=30)),
        "while its model loads",
    ),
    "one zone has them all": ("spread", in_pod("tools", topologySpreadConstraints=[]), "one zone"),
    "another bus": ("bus", variable("tools", "MILLRACE_NATS_URL", "nats://nats:4222"), "elsewhere"),
    "too few servers": ("bus", in_spec("StatefulSet", "nats", replicas=1), "secrets are for"),
    "a queue that is not there": ("scaling", trigger("tools", consumer="tool"), "no tool"),
    "a stream that is not there": ("scaling", trigger("ledger", stream="RUN"), "no ledger"),
    "an account that is not there": ("scaling", trigger("ledger", account="$G"), "not in $G"),
    "a lane is missing": (
        "scaling",
        lambda docs: named(docs, "ScaledObject", "inference")["spec"]["triggers"].pop(),
        "not all lanes",
    ),
    "a lane that does not count": (
        "scaling",
        lambda docs: named(docs, "ScaledObject", "inference")["spec"]["advanced"][
            "scalingModifiers"
        ].update(formula="interactive_0"),
        "does not count",
    ),
    "workers that run nothing": (
        "scaling",
        lambda docs: named(docs, "ScaledObject", "inference")["spec"]["triggers"][0][
            "metadata"
        ].update(query="sum(millrace_slots)"),
        "what its workers run",
    ),
    "to nothing": (
        *("scaling", in_spec("ScaledObject", "inference", minReplicaCount=0)),
        "to nothing",
    ),
    "it scales nothing": (
        *("scaling", in_spec("ScaledObject", "tools", scaleTargetRef={"name": "tool"})),
        "scales nothing",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_manifest_that_disagrees_is_found_out(case: str) -> None:
    check, change, fault = BAD[case]
    docs = rendered("full")
    change(docs)
    found = list(getattr(manifest_checks, check)(docs))
    assert any(fault in one for one in found), found


def test_every_check_has_something_to_find() -> None:
    assert {case[0] for case in BAD.values()} == {check.__name__ for check in QUICK}


MISSPELT: dict[str, tuple[str, str, str]] = {
    "of Kubernetes": ("PodDisruptionBudget", "tools", "maxUnavailible"),
    "of KEDA": ("ScaledObject", "tools", "minReplicasCount"),
    "of Prometheus": ("ServiceMonitor", "millrace", "endpionts"),
}


@pytest.mark.parametrize("whose", MISSPELT)
def test_a_misspelt_field_is_found_out(whose: str) -> None:
    kind, name, field = MISSPELT[whose]
    doc = named(rendered("full"), kind, name)
    assert list(schemas([doc])) == []
    doc["spec"][field] = 1
    (fault,) = schemas([doc])
    assert field in fault


MAY = [
    *((name, "nats", 4222) for name in (*SERVICES, "inference-gpu", "topology")),
    ("nats", "nats", 6222),
    ("router", "nats", 8222),
]
MAY_NOT = [
    *((name, "nats", 6222) for name in SERVICES),
    *((name, "nats", 8222) for name in SERVICES if name != "router"),
    *((name, other, port) for name in SERVICES for other in SERVICES for port in (8080, 9464)),
    ("nats", "ledger", 9464),
]


def test_services_reach_the_bus_and_nothing_else_of_ours() -> None:
    docs = rendered("full")
    assert [
        one for one in MAY if not may(docs, ours(docs, one[0]), ours(docs, one[1]), one[2])
    ] == []
    assert [
        one for one in MAY_NOT if may(docs, ours(docs, one[0]), ours(docs, one[1]), one[2])
    ] == []


STORE, WATCH, EDGE = (other(**{f"millrace_{name}": "true"}) for name in ("store", "watch", "edge"))
STRANGER, WORLD = other(a_b="c"), other(address="public")


def test_only_its_owner_reaches_a_store() -> None:
    docs = rendered("full")
    for name in SERVICES:
        assert may(docs, ours(docs, name), STORE, 5432) is (name == "ledger")
        assert may(docs, ours(docs, name), STORE, 19530) is (name == "retrieval")


def test_only_tools_and_workers_reach_the_world() -> None:
    docs = rendered("full")
    reached = {name for name in SERVICES if may(docs, ours(docs, name), WORLD, 443)}
    assert reached == {"tools", "inference"}
    (block,) = [
        to["ipBlock"]
        for doc in of(docs, "NetworkPolicy")
        for rule in doc["spec"].get("egress", [])
        for to in rule["to"]
        if "ipBlock" in to
    ]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(
        block["except"]
    )


def test_others_reach_what_they_are_for() -> None:
    docs = rendered("full")
    ingress, nats, tools = (ours(docs, name) for name in ("ingress", "nats", "tools"))
    assert may(docs, EDGE, ingress, 8080)
    assert may(docs, WATCH, tools, 9464)
    assert may(docs, WATCH, nats, 8222)
    for party, server, port in (
        *((EDGE, nats, 4222), (EDGE, tools, 9464), (WATCH, nats, 4222), (WATCH, ingress, 8080)),
        *((STRANGER, ingress, 8080), (STRANGER, nats, 4222), (STRANGER, nats, 8222)),
    ):
        assert not may(docs, party, server, port)


def test_a_policy_that_lets_everybody_in_is_found_out() -> None:
    docs = rendered("full")
    everybody = {"from": [{"namespaceSelector": {}}], "ports": [{"port": "client"}]}
    named(docs, "NetworkPolicy", "nats")["spec"]["ingress"].append(everybody)
    assert may(docs, STRANGER, ours(docs, "nats"), 4222)


@pytest.mark.parametrize("name", [*SERVICES, "inference-gpu", "tracing", "topology"])
def test_every_pod_of_ours_is_a_target(name: str) -> None:
    docs = rendered("full")
    watched = named(docs, "Service", "metrics")
    labels = named(docs, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
    assert watched["spec"]["selector"].items() <= labels.items()
    chosen = named(docs, "ServiceMonitor", "millrace")["spec"]["selector"]["matchLabels"]
    assert chosen.items() <= watched["metadata"]["labels"].items()
    (port,) = watched["spec"]["ports"]
    assert port["targetPort"] in {
        one["name"] for one in container(named(docs, "Deployment", name))["ports"]
    }


def test_targets_have_the_labels_that_dashboards_and_alerts_expect() -> None:
    (endpoint,) = named(rendered("full"), "ServiceMonitor", "millrace")["spec"]["endpoints"]
    found = {one["targetLabel"]: one for one in endpoint["relabelings"]}
    assert set(found) == {"job", "service", "instance"}
    assert found["job"]["replacement"] == "millrace"
    # how Prometheus writes a label of Kubernetes
    assert found["service"]["sourceLabels"] == [
        "__meta_kubernetes_pod_label_" + re.sub(r"\W", "_", "app.kubernetes.io/name")
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All secrets, as the README has them made."""
    folder = tmp_path_factory.mktemp("made")
    secrets.write(folder, secrets.PODS)
    return folder


@OPENSSL
@pytest.mark.parametrize("name", [*SERVICES, "inference-gpu", "tracing", "topology"])
def test_a_pod_takes_its_settings(
    name: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = rendered("full")
    doc = named(docs, "Deployment", name)
    own = tmp_path / "own"
    own.mkdir()
    (volume,) = [one for one in pod(doc)["volumes"] if one["name"] == "secrets"]
    for source in volume["projected"]["sources"]:
        for file, path in SECRETS[source["secret"]["name"]].items():
            (own / file).write_bytes((made / path).read_bytes())
    (mount,) = [one for one in container(doc)["volumeMounts"] if one["name"] == "secrets"]
    for key in [key for key in os.environ if key.startswith(PREFIX)]:  # noqa: TID251
        monkeypatch.delenv(key)
    for key, value in settings_of(docs, doc).items():
        monkeypatch.setenv(key, value.replace(mount["mountPath"], str(own)))
    module = container(doc)["command"][2]
    found = settings_class(module)()
    assert found.address().replicas == len(found.address().servers) == 3
    assert found.address().token is None
    assert login_of(found.address(), name).user == user_of(module)
    if name == "ledger":
        assert found.url().startswith("postgresql+asyncpg://")
    if name == "ingress":
        found.check_auth()
    if name.startswith("inference"):
        assert found.worker == name


def test_only_our_pods_have_secrets_of_the_services() -> None:
    for doc in workloads(rendered("full")):
        name = doc["metadata"]["name"]
        found = {
            source["secret"]["name"]
            for volume in pod(doc)["volumes"]
            for source in volume.get("projected", {}).get("sources", [])
            if "secret" in source
        }
        bus = {one for one in found if one.startswith("millrace-bus-")}
        assert found - bus == {f"millrace-{name}"} & set(SECRETS)
        assert len(bus) == is_ours(doc)


@pytest.mark.parametrize("name", ["cluster.conf", "models.yaml"])
def test_what_kustomize_cannot_reach_is_the_same_here(name: str) -> None:
    folder = {"cluster.conf": "nats"}.get(name, "")
    assert (K8S / "base" / name).read_text() == (ROOT / "infra" / folder / name).read_text()


KUBECTL = """#!/bin/sh
for one in "$@"; do
  case "$one" in --from-file=*) test -f "${one##*=}" || exit 1 ;; esac
done
printf '%s\\n' "$*" >> "$CALLS"
"""


@OPENSSL
def test_the_readme_makes_every_secret(tmp_path: Path) -> None:
    """By running what it says, with a kubectl that notes what it is told."""
    (block,) = re.findall(r"```sh\n(.*?)```", (K8S / "README.md").read_text(), re.DOTALL)
    for name, text in (
        ("kubectl", KUBECTL),
        ("python", f'#!/bin/sh\nexec {sys.executable} "$@"\n'),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    calls = tmp_path / "calls"
    environment = {
        **{"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        "CALLS": str(calls),
    }
    argv = ["sh", "-e", "-c", block]
    subprocess.run(argv, cwd=tmp_path, env=environment, check=True, capture_output=True)
    made: dict[str, dict[str, str]] = {}
    for line in calls.read_text().splitlines():
        if " create secret generic " in line:
            words = shlex.split(line)
            files = [word.removeprefix("--from-file=") for word in words if "--from-file=" in word]
            pairs = (one.split("=./") for one in files)
            made[words[words.index("generic") + 1]] = dict(pairs)
    assert made == SECRETS
