"""The manifests as a cluster gets them: rendered by Kustomize, and asked about by their kinds."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest
import yaml

from tests.contract.deploy.compose_checks import ROOT

Doc = dict[str, Any]
OVERLAYS = ("plain", "full")
_WAYS = (("kubectl", ("kubectl", "kustomize")), ("kustomize", ("kustomize", "build")))


@cache
def text_of(overlay: str) -> str:
    """What Kustomize makes of an overlay; the test is skipped where there is none."""
    argv = next((words for program, words in _WAYS if shutil.which(program)), None)
    if argv is None:
        pytest.skip("no kubectl and no kustomize on this machine")
    path = ROOT / "infra" / "k8s" / "overlays" / overlay
    found = subprocess.run([*argv, str(path)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


def rendered(overlay: str) -> list[Doc]:
    """The objects of an overlay, each time anew."""
    return list(yaml.load_all(text_of(overlay), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def of(docs: list[Doc], *kinds: str) -> Iterator[Doc]:
    """The objects of these kinds."""
    return (doc for doc in docs if doc["kind"] in kinds)


def named(docs: list[Doc], kind: str, name: str) -> Doc:
    """One object."""
    return next(doc for doc in of(docs, kind) if doc["metadata"]["name"] == name)


def name_of(doc: Doc) -> str:
    """Kind and name, for faults."""
    return f"{doc['kind']}/{doc['metadata']['name']}"


def workloads(docs: list[Doc]) -> Iterator[Doc]:
    """What runs pods."""
    return of(docs, "Deployment", "StatefulSet")


def pod(doc: Doc) -> Doc:
    """What a workload's pods are like."""
    return doc["spec"]["template"]["spec"]


def container(doc: Doc) -> Doc:
    """The one container of a workload's pods."""
    (one,) = pod(doc)["containers"]
    return one


def labels(doc: Doc) -> Mapping[str, str]:
    """What a workload's pods are labelled with."""
    return doc["spec"]["template"]["metadata"]["labels"]


def selects(selector: Doc, found: Mapping[str, str]) -> bool:
    """Whether a label selector takes these labels."""
    exact = all(found.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    among = all(
        found.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", [])
    )
    return exact and among


def port_names(doc: Doc) -> dict[str, int]:
    """The ports of a workload's container by their names."""
    return {one["name"]: one["containerPort"] for one in container(doc)["ports"]}


def is_ours(doc: Doc) -> bool:
    """Whether a workload runs our code."""
    return "command" in container(doc)


def settings_of(docs: list[Doc], doc: Doc) -> dict[str, str]:
    """The variables that a workload's container gets, as far as they are written down."""
    found: dict[str, str] = {}
    for one in container(doc).get("envFrom", []):
        found |= named(docs, "ConfigMap", one["configMapRef"]["name"])["data"]
    for one in container(doc).get("env", []):
        found[one["name"]] = one.get("value", doc["metadata"]["name"])
    return found
