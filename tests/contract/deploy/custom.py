"""The objects of others that Kubernetes has no schema for, as strictly as we use them.

After the published definitions of KEDA 2.12 and newer, and of Prometheus' operator. A field that is
not here is refused, as those would refuse it when it is misspelt.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Number = Annotated[str, msgspec.Meta(pattern=r"^[1-9]\d*$")]


class Strict(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """No field but these."""


class Metadata(Strict):
    name: str
    namespace: str
    labels: dict[str, str] = {}


class Lag(Strict):
    nats_server_monitoring_endpoint: str
    account: str
    stream: str
    consumer: str
    lag_threshold: Number


class Query(Strict):
    server_address: str
    query: str
    threshold: Number


class Waiting(Strict, tag_field="type", tag="nats-jetstream"):
    metadata: Lag
    name: str = ""


class Running(Strict, tag_field="type", tag="prometheus"):
    metadata: Query
    name: str


class Modifiers(Strict):
    formula: str
    target: Number


class Advanced(Strict):
    scaling_modifiers: Modifiers


class Target(Strict):
    name: str


class Scaling(Strict):
    scale_target_ref: Target
    min_replica_count: int
    max_replica_count: int
    polling_interval: int
    cooldown_period: int
    triggers: list[Waiting | Running]
    advanced: Advanced | None = None


class ScaledObject(Strict):
    api_version: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    metadata: Metadata
    spec: Scaling


class Relabeling(Strict):
    target_label: str
    source_labels: list[str] = []
    replacement: str = "$1"


class Endpoint(Strict):
    port: str
    path: str
    interval: str
    relabelings: list[Relabeling]


class Selector(Strict):
    match_labels: dict[str, str]


class Monitoring(Strict):
    selector: Selector
    endpoints: list[Endpoint]


class ServiceMonitor(Strict):
    api_version: Literal["monitoring.coreos.com/v1"]
    kind: Literal["ServiceMonitor"]
    metadata: Metadata
    spec: Monitoring


KINDS: dict[str, type[Strict]] = {"ScaledObject": ScaledObject, "ServiceMonitor": ServiceMonitor}
