"""What must hold of the manifests: each check takes the objects and gives its faults in words."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import msgspec

from infra.containers import secrets
from infra.local.plan import SERVICES
from infra.local.supervisor import GRACE
from infra.nats.config import ACCOUNT, USERS
from shared.metrics.catalogue import SLOTS_USED
from shared.models import AnyModel, read_models
from shared.settings import KNOWN, PREFIX
from shared.subjects import CONSUMERS, LANES, WORK, shared_infer_consumer
from tests.contract.deploy.compose_checks import EXACT, user_of
from tests.contract.deploy.custom import KINDS, Lag, Running, ScaledObject, Waiting
from tests.contract.deploy.manifests import (
    Doc,
    container,
    is_ours,
    labels,
    name_of,
    named,
    of,
    pod,
    port_names,
    selects,
    settings_of,
    workloads,
)

VERSION = "1.34"
"""The oldest Kubernetes whose schemas are at hand: what it takes, newer ones take."""
_BUS = "millrace-bus-"
SECRETS = {
    "millrace-nats": {
        "security.conf": "security.conf",
        "routes.conf": "nats_routes.conf",
        "server.pem": "tls/server.pem",
        "server.key": "tls/server.key",
        "ca.pem": "tls/ca.pem",
    },
    **{f"{_BUS}{user}": {"bus.nk": f"users/{user}.nk", "ca.pem": "tls/ca.pem"} for user in USERS},
    "millrace-ledger": {"millrace_database_url": "millrace_database_url"},
    "millrace-retrieval": {"millrace_milvus_token": "millrace_milvus_token"},
}
"""What infra/k8s/README.md has the reader make: the files in it, and what they are made of."""
CLAIMS = {"models"}


def schemas(docs: list[Doc]) -> Iterator[str]:
    """Kubernetes takes them, and so do those who brought their own kinds."""
    for doc in docs:
        try:
            if kind := KINDS.get(doc["kind"]):
                msgspec.convert(doc, kind)
            else:
                kubernetes_validate.validate(doc, VERSION, strict=True)
        except (kubernetes_validate.ValidationError, msgspec.ValidationError) as error:
            yield f"{name_of(doc)}: {str(error)[:300]}"
        except kubernetes_validate.SchemaNotFoundError:
            yield f"{name_of(doc)}: nobody knows this kind"


def services(docs: list[Doc]) -> Iterator[str]:
    """Every service of the code runs, twice at least or as often as an autoscaler says."""
    commands = [container(doc).get("command") for doc in of(docs, "Deployment")]
    for name in SERVICES:
        if ["python", "-m", f"services.{name}"] not in commands:
            yield f"{name}: nothing runs it"
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in _scalers(docs)}
    for doc in workloads(docs):
        fixed = doc["spec"].get("replicas")
        if (doc["metadata"]["name"] in scaled) == (fixed is not None):
            yield f"{name_of(doc)}: its size is said twice, or by nobody"
        if fixed is not None and fixed < 2:
            yield f"{name_of(doc)}: there is only one of it"


def _scalers(docs: list[Doc]) -> Iterator[Doc]:
    return of(docs, "ScaledObject", "HorizontalPodAutoscaler")


def environment(docs: list[Doc]) -> Iterator[str]:
    """Only names that the code knows, and no secret among them."""
    for doc in workloads(docs):
        for key in settings_of(docs, doc):
            if key.startswith(PREFIX) and key.removeprefix(PREFIX) not in KNOWN:
                yield f"{name_of(doc)}: no part of Millrace knows {key}"
            if re.search(r"PASSWORD$|TOKEN$|SECRET(_KEY)?$|DATABASE_URL$", key):
                yield f"{name_of(doc)}: {key} is a secret in the environment"
        if pod(doc).get("enableServiceLinks") is not False:
            yield f"{name_of(doc)}: Services of the namespace become settings of it"


def images(docs: list[Doc]) -> Iterator[str]:
    """Each is one version of it."""
    for doc in workloads(docs):
        if not EXACT.fullmatch(container(doc)["image"]):
            yield f"{name_of(doc)}: the image {container(doc)['image']} is not pinned"


def references(docs: list[Doc]) -> Iterator[str]:
    """What a pod mounts is there, and what is there is mounted."""
    maps = {doc["metadata"]["name"] for doc in of(docs, "ConfigMap")}
    for doc in workloads(docs):
        volumes = {one["name"]: one for one in pod(doc).get("volumes", [])}
        claimed = {one["metadata"]["name"] for one in doc["spec"].get("volumeClaimTemplates", [])}
        mounted = {one["name"] for one in container(doc)["volumeMounts"]}
        for name in sorted(mounted ^ (set(volumes) | claimed)):
            yield f"{name_of(doc)}: {name} is mounted and not there, or there and not mounted"
        for kind, name in (one for volume in volumes.values() for one in _sources(volume)):
            known = {"configMap": maps, "secret": SECRETS, "persistentVolumeClaim": CLAIMS}[kind]
            if name not in known:
                yield f"{name_of(doc)}: nobody makes the {kind} {name}"


def _sources(volume: Doc) -> Iterator[tuple[str, str]]:
    for one in volume.get("projected", {}).get("sources", [volume]):
        for kind, key in (("configMap", "name"), ("secret", "name")):
            if kind in one:
                yield kind, one[kind][key]
        if "persistentVolumeClaim" in one:
            yield "persistentVolumeClaim", one["persistentVolumeClaim"]["claimName"]


def users(docs: list[Doc]) -> Iterator[str]:
    """Each program has its own key on the bus and no other one's, and knows whom to trust."""
    for doc in workloads(docs):
        volumes = pod(doc).get("volumes", [])
        mounted = [name for one in volumes for kind, name in _sources(one) if kind == "secret"]
        keys = [name for name in mounted if name.startswith(_BUS)]
        own = [f"{_BUS}{user_of(container(doc)['command'][2])}"] if is_ours(doc) else []
        if keys != own:
            yield f"{name_of(doc)}: it has the keys {keys}"
        if not is_ours(doc):
            continue
        if "millrace-nats" in mounted:
            yield f"{name_of(doc)}: it has the key of the bus's certificate"
        (folder,) = (
            one["mountPath"] for one in container(doc)["volumeMounts"] if one["name"] == "secrets"
        )
        found = settings_of(docs, doc)
        for variable, file in (("CREDS", "bus.nk"), ("CA", "ca.pem")):
            if found.get(f"MILLRACE_NATS_{variable}") != f"{folder}/{file}":
                yield f"{name_of(doc)}: MILLRACE_NATS_{variable} is not where {file} is mounted"


def probes(docs: list[Doc]) -> Iterator[str]:
    """All three, at a port that the container has; a broker that is away ends nobody."""
    for doc in workloads(docs):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            get = container(doc).get(probe, {}).get("httpGet")
            if get is None:
                yield f"{name_of(doc)}: no {probe}"
                continue
            if get["port"] not in port_names(doc):
                yield f"{name_of(doc)}: {probe} asks a port that is not there"
            wanted = {"livenessProbe": ["/healthz"], "readinessProbe": ["/readyz", "/healthz"]}
            if get["path"].split("?")[0] not in wanted.get(probe, ["/readyz", "/healthz"]):
                yield f"{name_of(doc)}: {probe} asks {get['path']}"
        if is_ours(doc) and container(doc)["readinessProbe"]["httpGet"]["path"] != "/readyz":
            yield f"{name_of(doc)}: it is called ready when it only lives"


def selectors(docs: list[Doc]) -> Iterator[str]:
    """Whoever selects pods selects those it means."""
    every = list(workloads(docs))
    for doc in every:
        if not selects(doc["spec"]["selector"], labels(doc)):
            yield f"{name_of(doc)}: it does not select its own pods"
    for doc in of(docs, "PodDisruptionBudget"):
        found = [one["metadata"]["name"] for one in every if selects(_selector(doc), labels(one))]
        if found != [doc["metadata"]["name"]]:
            yield f"{name_of(doc)}: it selects {found}"
    guarded = {doc["metadata"]["name"] for doc in of(docs, "PodDisruptionBudget")}
    yield from (f"{name_of(d)}: no budget" for d in every if d["metadata"]["name"] not in guarded)
    for doc in of(docs, "Service"):
        yield from _service(doc, every)
    for doc in of(docs, "ServiceMonitor"):
        met = [one for one in of(docs, "Service") if selects(_selector(doc), _own_labels(one))]
        ports = {port["name"] for one in met for port in one["spec"]["ports"]}
        if not {one["port"] for one in doc["spec"]["endpoints"]} <= ports:
            yield f"{name_of(doc)}: it finds no such port"


def _selector(doc: Doc) -> Doc:
    return doc["spec"]["selector"]


def _own_labels(doc: Doc) -> Doc:
    return doc["metadata"].get("labels", {})


def _service(doc: Doc, every: list[Doc]) -> Iterator[str]:
    found = [one for one in every if selects({"matchLabels": _selector(doc)}, labels(one))]
    if not found:
        yield f"{name_of(doc)}: it leads nowhere"
    for one in found:
        for port in doc["spec"]["ports"]:
            if port["targetPort"] not in port_names(one):
                yield f"{name_of(doc)}: {name_of(one)} has no port {port['targetPort']}"


def security(docs: list[Doc]) -> Iterator[str]:
    """The profile `restricted`, and a root file system that nobody writes to."""
    for doc in workloads(docs):
        inside, own = pod(doc).get("securityContext", {}), container(doc).get("securityContext", {})
        wanted = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        if any(inside.get(key) != value for key, value in wanted.items()):
            yield f"{name_of(doc)}: it may be root"
        if inside.get("runAsUser", 0) < 1000:
            yield f"{name_of(doc)}: it is a user of the node"
        yield from _container_security(name_of(doc), own)
        if pod(doc).get("automountServiceAccountToken") is not False:
            yield f"{name_of(doc)}: it holds a key to the cluster"
        limits = container(doc).get("resources", {})
        if "memory" not in limits.get("limits", {}) or "cpu" not in limits.get("requests", {}):
            yield f"{name_of(doc)}: nobody knows what it needs"


def _container_security(name: str, own: Doc) -> Iterator[str]:
    if own.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{name}: it keeps capabilities"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: it may gain privileges"
    if own.get("readOnlyRootFilesystem") is not True:
        yield f"{name}: its root file system can be written to"


def stopping(docs: list[Doc]) -> Iterator[str]:
    """Whoever stops has the time that the code may take, and what it waits for before."""
    for doc in workloads(docs):
        before = container(doc).get("lifecycle", {}).get("preStop", {}).get("exec", {})
        wait = int(before["command"][1]) if before else 0
        if pod(doc).get("terminationGracePeriodSeconds", 0) < wait + 2 * GRACE:
            yield f"{name_of(doc)}: it is killed while it stops"
        if "http" in port_names(doc) and not wait:
            yield f"{name_of(doc)}: it leaves before its callers know"
        if "nvidia.com/gpu" in container(doc)["resources"]["limits"]:
            yield from _gpu(docs, doc)


def _gpu(docs: list[Doc], doc: Doc) -> Iterator[str]:
    probe = container(doc)["startupProbe"]
    model = models_of(docs)[settings_of(docs, doc)["MILLRACE_MODEL"]]
    if probe["failureThreshold"] * probe["periodSeconds"] < getattr(model, "load_s", 0):
        yield f"{name_of(doc)}: it is killed while its model loads"
    if pod(doc)["terminationGracePeriodSeconds"] < 120:
        yield f"{name_of(doc)}: its engine has no time to end"


def spread(docs: list[Doc]) -> Iterator[str]:
    """No zone has all of anything; servers of the bus never share a node."""
    for doc in workloads(docs):
        found = [one["topologyKey"] for one in pod(doc).get("topologySpreadConstraints", [])]
        if "topology.kubernetes.io/zone" not in found:
            yield f"{name_of(doc)}: one zone may have them all"
        for one in pod(doc).get("topologySpreadConstraints", []):
            if not selects(one["labelSelector"], labels(doc)):
                yield f"{name_of(doc)}: it spreads what it is not"
    nodes = pod(named(docs, "StatefulSet", "nats")).get("affinity", {})
    if "requiredDuringSchedulingIgnoredDuringExecution" not in nodes.get("podAntiAffinity", {}):
        yield "StatefulSet/nats: two servers may share a node"


def bus(docs: list[Doc]) -> Iterator[str]:
    """The services know the servers by the names that those have, and ask for no more of them."""
    nats = named(docs, "StatefulSet", "nats")
    count, service = nats["spec"]["replicas"], nats["spec"]["serviceName"]
    hosts = [f"nats-{number}.{service}" for number in range(count)]
    if list(secrets.PODS) != hosts:
        yield f"the secrets are for {secrets.PODS}"
    for doc in filter(is_ours, workloads(docs)):
        found = settings_of(docs, doc)
        if found.get("MILLRACE_NATS_URL") != ",".join(f"nats://{one}:4222" for one in hosts):
            yield f"{name_of(doc)}: it looks for the bus elsewhere"
        if int(found.get("MILLRACE_STREAM_REPLICAS", 1)) > count:
            yield f"{name_of(doc)}: it wants more servers than there are"
    if named(docs, "Service", "nats")["spec"].get("clusterIP") != "None":
        yield "Service/nats: its servers have no names"


def models_of(docs: list[Doc]) -> dict[str, AnyModel]:
    """The models of the ConfigMap that workers and routers read."""
    found = next(one for one in of(docs, "ConfigMap") if "models.yaml" in one["data"])
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(found["data"]["models.yaml"])
        file.flush()
        return read_models(Path(file.name)).models


def scaling(docs: list[Doc]) -> Iterator[str]:
    """Queues are those of the code; a pool of workers counts all lanes of its model."""
    lanes = {
        model: [shared_infer_consumer(model, lane).name for lane in LANES]
        for model in models_of(docs)
    }
    targets = {doc["metadata"]["name"] for doc in of(docs, "Deployment")}
    for doc in _scalers(docs):
        if doc["spec"]["scaleTargetRef"]["name"] not in targets:
            yield f"{name_of(doc)}: it scales nothing"
    for doc in of(docs, "ScaledObject"):
        found = msgspec.convert(doc, ScaledObject).spec
        if not 1 <= found.min_replica_count <= found.max_replica_count:
            yield f"{name_of(doc)}: it scales to nothing"
        for one in found.triggers:
            if isinstance(one, Waiting):
                yield from _queue(name_of(doc), one.metadata, lanes)
        if found.scale_target_ref.name.startswith("inference"):
            yield from _pool(docs, doc, lanes)


def _queue(name: str, lag: Lag, lanes: dict[str, list[str]]) -> Iterator[str]:
    known = {(row.stream, row.name) for row in CONSUMERS}
    known |= {(WORK, lane) for names in lanes.values() for lane in names}
    if (lag.stream, lag.consumer) not in known:
        yield f"{name}: the code has no {lag.consumer}"
    if lag.account != ACCOUNT:
        yield f"{name}: the streams are not in {lag.account}"
    if lag.nats_server_monitoring_endpoint != _MONITOR:
        yield f"{name}: nobody answers at its endpoint"


_MONITOR = "nats.millrace.svc.cluster.local:8222"


def _pool(docs: list[Doc], doc: Doc, lanes: dict[str, list[str]]) -> Iterator[str]:
    found = msgspec.convert(doc, ScaledObject).spec
    worker = named(docs, "Deployment", found.scale_target_ref.name)
    model = settings_of(docs, worker)["MILLRACE_MODEL"]
    waiting = [one for one in found.triggers if isinstance(one, Waiting)]
    if [one.metadata.consumer for one in waiting] != lanes[model]:
        yield f"{name_of(doc)}: not all lanes of {model}"
    (running,) = (one for one in found.triggers if isinstance(one, Running))
    if running.metadata.query != f'sum({SLOTS_USED.name}{{model="{model}"}})':
        yield f"{name_of(doc)}: it does not count what its workers run"
    counted = f"max({running.name}, {' + '.join(one.name for one in waiting)})"
    if not found.advanced or found.advanced.scaling_modifiers.formula != counted:
        yield f"{name_of(doc)}: its formula does not count all lanes"
    slots = str(models_of(docs)[model].concurrency)
    if not found.advanced or found.advanced.scaling_modifiers.target != slots:
        yield f"{name_of(doc)}: a worker of {model} has {slots} slots"


CHECKS = (
    *(schemas, services, environment, images, references, users, probes, selectors, security),
    *(stopping, spread, bus, scaling),
)
