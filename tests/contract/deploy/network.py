"""Who may talk to whom, by the NetworkPolicies: as much of their rules as ours use."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.contract.deploy.manifests import Doc, labels, of, port_names, selects, workloads


@dataclass(frozen=True)
class Party:
    """A pod of ours by its workload, or somebody of another namespace by that one's labels."""

    labels: dict[str, str]
    ports: dict[str, int] = field(default_factory=dict)
    outside: bool = False


def ours(docs: list[Doc], name: str) -> Party:
    """The pods of a workload."""
    doc = next(one for one in workloads(docs) if one["metadata"]["name"] == name)
    return Party(dict(labels(doc)), port_names(doc))


def other(**found: str) -> Party:
    """Somebody of a namespace with these labels, `_` standing for `/`."""
    return Party({key.replace("_", "/", 1): value for key, value in found.items()}, outside=True)


def may(docs: list[Doc], one: Party, another: Party, port: int) -> bool:
    """Whether `one` may open a connection to `another` at a port: both sides have to agree."""
    return _side(docs, one, another, "Egress", port, another) and _side(
        docs, another, one, "Ingress", port, another
    )


def _side(docs: list[Doc], own: Party, peer: Party, way: str, port: int, server: Party) -> bool:
    if own.outside:
        return True
    policies = [
        doc["spec"]
        for doc in of(docs, "NetworkPolicy")
        if way in doc["spec"]["policyTypes"] and selects(doc["spec"]["podSelector"], own.labels)
    ]
    key = "to" if way == "Egress" else "from"
    rules = [rule for spec in policies for rule in spec.get(way.lower(), [])]
    return not policies or any(
        any(_is(entry, peer) for entry in rule[key])
        and any(server.ports.get(given["port"], given["port"]) == port for given in rule["ports"])
        for rule in rules
    )


def _is(entry: Doc, peer: Party) -> bool:
    if "ipBlock" in entry:
        return peer.labels == {"address": "public"}
    kind = "namespaceSelector" if peer.outside else "podSelector"
    return kind in entry and selects(entry[kind], peer.labels)
