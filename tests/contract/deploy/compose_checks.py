"""What must hold of compose.yaml: each check takes the rendered file and gives its faults."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema

from infra.containers import secrets
from infra.containers.__main__ import PROFILES
from infra.local.plan import SERVICES
from infra.local.supervisor import GRACE
from shared.settings import KNOWN, PREFIX
from shared.subjects.permissions import ADMIN

ROOT = Path(__file__).resolve().parents[3]
Doc = dict[str, Any]
MUTE = frozenset({"jaeger", "otel-collector"})
"""Images without a program that could ask how they are."""
STORES = ("postgres", "etcd", "minio", "milvus")
EXACT = re.compile(
    r"[\w./-]+(:(v?\d+\.\d+\.\d+[\w.-]*|RELEASE\.[\dTZ-]+)|(:[\w.-]+)?@sha256:[0-9a-f]{64})"
)
"""An image that stays what it is: by three numbers, by a day, or by its digest."""
_SECONDS = re.compile(r"(\d+)(s|m)")


@cache
def specification() -> dict[str, Any]:
    """The schema of the Compose specification, as the package check-jsonschema carries it."""
    package = importlib.metadata.distribution("check-jsonschema")
    path = "check_jsonschema/builtin_schemas/vendor/compose-spec.json"
    return json.loads(Path(str(package.locate_file(path))).read_text())


def ours(doc: Doc) -> dict[str, Doc]:
    """The containers that run our code."""
    return {name: row for name, row in doc["services"].items() if "build" in row}


def module_of(row: Doc) -> str:
    """The program that a container of ours runs."""
    return (row.get("command", []) + ["?"] * 3)[2]


def user_of(module: str) -> str:
    """Who a program is on the bus."""
    return ADMIN if module == "infra.nats" else module.removeprefix("services.")


def schema(doc: Doc) -> Iterator[str]:
    """It is a Compose file."""
    validator = jsonschema.Draft202012Validator(specification())
    for error in validator.iter_errors(doc):
        yield f"{'.'.join(map(str, error.absolute_path))}: {error.message[:120]}"


def services(doc: Doc) -> Iterator[str]:
    """Every service of the code runs, by the command that the supervisor uses, too."""
    for name in SERVICES:
        command = ["python", "-m", f"services.{name}"]
        if doc["services"].get(name, {}).get("command") != command:
            yield f"{name}: no container runs {' '.join(command)}"
    for name, row in ours(doc).items():
        module = module_of(row)
        if not (ROOT / module.replace(".", "/") / "__main__.py").exists():
            yield f"{name}: there is no program {module}"


def environment(doc: Doc) -> Iterator[str]:
    """Only names that the code knows, and never a secret."""
    for name, row in doc["services"].items():
        for key in row.get("environment", {}):
            if "build" in row and key.startswith(PREFIX) and key.removeprefix(PREFIX) not in KNOWN:
                yield f"{name}: no part of Millrace knows {key}"
            if re.search(r"PASSWORD$|TOKEN$|SECRET(_KEY)?$|DATABASE_URL$", key):
                yield f"{name}: {key} is a secret in the environment"


def images(doc: Doc) -> Iterator[str]:
    """What others made is pinned; what we make can be made."""
    for name, row in doc["services"].items():
        if not EXACT.fullmatch(row["image"]):
            yield f"{name}: the image {row['image']} is not pinned to one version"
        build = row.get("build")
        if build and not (ROOT / build["context"] / build["dockerfile"]).is_file():
            yield f"{name}: there is no {build['dockerfile']}"


def references(doc: Doc) -> Iterator[str]:
    """What a container mounts is declared, and what is declared is mounted."""
    for kind in ("secrets", "configs", "networks", "volumes"):
        used = {one for row in doc["services"].values() for one in _names(row, kind)}
        declared = set(doc.get(kind, {}))
        yield from (f"{kind}: {name} is not declared" for name in sorted(used - declared))
        yield from (f"{kind}: nobody uses {name}" for name in sorted(declared - used))


def _names(row: Doc, kind: str) -> Iterator[str]:
    for one in row.get(kind, []):
        if kind == "volumes":
            source = one.split(":")[0]
            if not source.startswith(("/", ".")):
                yield source
        else:
            yield one["source"] if isinstance(one, dict) else one


def files(doc: Doc) -> Iterator[str]:
    """Configuration is in the repository; secrets are files that our own command makes."""
    for name, row in doc["configs"].items():
        if not (ROOT / row["file"]).is_file():
            yield f"configs: {name} is {row['file']}, which is not there"
    for name, row in doc["secrets"].items():
        made = row["file"].partition("/containers/")[2]
        if Path(made).name != name or made not in secrets.names():
            yield f"secrets: nobody makes {row['file']}"
    for name, row in doc["services"].items():
        yield from _folders(name, row.get("volumes", []))


def _folders(name: str, volumes: list[str]) -> Iterator[str]:
    for one in volumes:
        source, *_, mode = one.split(":")
        if source.startswith(".") and mode != "ro":
            yield f"{name}: {source} of this machine can be written to"
        if source.startswith("./infra/") and not (ROOT / source).exists():
            yield f"{name}: {source} is not there"


def users(doc: Doc) -> Iterator[str]:
    """Each program has its own key on the bus and no other one's; nobody has a token."""
    keys = {name for name in doc["secrets"] if name.endswith(".nk")}
    for name, row in doc["services"].items():
        mounted = {_source(one): _target(one) for one in row.get("secrets", [])}
        own = f"{user_of(module_of(row))}.nk" if "build" in row else ""
        yield from (f"{name}: it has {other}" for other in sorted(keys & set(mounted) - {own}))
        if "build" in row:
            yield from _login(name, row, own, mounted)
    yield from (
        f"secrets: {one} is a token of the bus"
        for one in doc["secrets"]
        if "token" in one and "nats" in one
    )


def _login(name: str, row: Doc, own: str, mounted: dict[str, str]) -> Iterator[str]:
    wanted = {"MILLRACE_NATS_CREDS": own, "MILLRACE_NATS_CA": "ca.pem"}
    for variable, source in wanted.items():
        if row["environment"].get(variable) != mounted.get(source):
            yield f"{name}: {variable} is not where {source} is mounted"
    if "server.key" in mounted:
        yield f"{name}: it has the key of the bus's certificate"


def _source(one: str | Doc) -> str:
    return one if isinstance(one, str) else one["source"]


def _target(one: str | Doc) -> str:
    """Where a secret is seen; a name alone is below the usual folder."""
    target = one if isinstance(one, str) else one["target"]
    return target if target.startswith("/") else f"/run/secrets/{target}"


def health(doc: Doc) -> Iterator[str]:
    """Everything says how it is, by a command that its image has, at a port that it listens on."""
    for name, row in doc["services"].items():
        test = row.get("healthcheck", {}).get("test", [])
        if name not in MUTE and (test[:1] != ["CMD"] or len(test) < 2):
            yield f"{name}: no health check by command"
        elif "build" in row:
            yield from _our_health(name, row, test)


def _our_health(name: str, row: Doc, test: list[str]) -> Iterator[str]:
    script, url = test[2], urlsplit(test[3])
    ports = {row["environment"].get(f"{PREFIX}{of}_PORT") for of in ("METRICS", "HTTP")}
    if test[1] != "python" or not (ROOT / script).is_file():
        yield f"{name}: there is no {script} in its image"
    if url.hostname != "127.0.0.1" or str(url.port) not in ports:
        yield f"{name}: nothing of it listens at {url.netloc}"
    if url.path not in {"/healthz", "/readyz"}:
        yield f"{name}: it does not answer {url.path}"


def hardening(doc: Doc) -> Iterator[str]:
    """Nobody can do more than it has to."""
    for name, row in doc["services"].items():
        if not row.get("read_only") and name != "milvus":
            yield f"{name}: its root file system can be written to"
        if row.get("cap_drop") != ["ALL"]:
            yield f"{name}: it keeps capabilities"
        if "no-new-privileges:true" not in row.get("security_opt", []):
            yield f"{name}: it may gain privileges"
        if row.get("privileged") or row.get("network_mode") or row.get("pid"):
            yield f"{name}: it shares this machine's namespaces"
        if "build" in row and (row.get("user") != "10001:10001" or row.get("cap_add")):
            yield f"{name}: it is not the unprivileged user of its image"
        limits = row.get("deploy", {}).get("resources", {}).get("limits", {})
        if not {"memory", "pids"} <= set(limits):
            yield f"{name}: no limits of memory and processes"


def ports(doc: Doc) -> Iterator[str]:
    """Only this machine reaches what is published."""
    for name, row in doc["services"].items():
        for one in row.get("ports", []):
            if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", one):
                yield f"{name}: {one} is open to others"
        if row.get("ports") and all(
            doc["networks"].get(net, {}).get("internal") for net in row["networks"]
        ):
            yield f"{name}: a port is published from networks without a way in"


def dependencies(doc: Doc) -> Iterator[str]:
    """Whoever is waited for exists, can say that it is healthy, and is not waited for in vain."""
    rows = doc["services"]
    for name, row in rows.items():
        for other, how in row.get("depends_on", {}).items():
            if other not in rows:
                yield f"{name}: it waits for {other}, which is not there"
            elif how.get("required", True) and _rarer(rows[other], row):
                yield f"{name}: it waits for {other}, which only runs with a profile"
            elif how["condition"] == "service_healthy" and "healthcheck" not in rows[other]:
                yield f"{name}: it waits for the health of {other}, which says nothing of it"


def _rarer(one: Doc, another: Doc) -> bool:
    """Whether the first needs a profile that the second does not."""
    own, its = set(one.get("profiles", [])), set(another.get("profiles", []))
    return bool(own) and not (its and its <= own)


def networks(doc: Doc) -> Iterator[str]:
    """An address that a container is given is that of one it shares a network with."""
    rows = doc["services"]
    for name in STORES:
        if rows[name]["networks"] != ["store"] or not doc["networks"]["store"].get("internal"):
            yield f"{name}: more than the services that own it can reach it"
    for name, row in rows.items():
        for host in _hosts(row):
            if host not in rows:
                yield f"{name}: there is no host {host}"
            elif not set(row["networks"]) & set(rows[host]["networks"]):
                yield f"{name}: it cannot reach {host}"


def _hosts(row: Doc) -> Iterator[str]:
    for value in row.get("environment", {}).values():
        for one in value.split(","):
            if found := re.fullmatch(r"(?:\w+://)?([a-z][a-z0-9-]*):\d+", one):
                yield found[1]


def stopping(doc: Doc) -> Iterator[str]:
    """Our containers get more time to stop than the supervisor gives them."""
    for name, row in ours(doc).items():
        found = _SECONDS.fullmatch(row.get("stop_grace_period", "0s"))
        if found is None or int(found[1]) * (60 if found[2] == "m" else 1) < 2 * GRACE:
            yield f"{name}: it is killed while it stops"


def profiles(doc: Doc) -> Iterator[str]:
    """Profiles are those that `make up` offers, and what runs always is all that the demo needs."""
    found = {one for row in doc["services"].values() for one in row.get("profiles", [])}
    yield from (f"profiles: {name} is not offered" for name in sorted(found - set(PROFILES)))
    yield from (f"profiles: {name} is empty" for name in sorted(set(PROFILES) - found))
    for name in ("nats", *SERVICES, *STORES):
        if doc["services"][name].get("profiles"):
            yield f"{name}: it only runs with a profile"


CHECKS = (
    *(schema, services, environment, images, references, files, users, health, hardening, ports),
    *(dependencies, networks, stopping, profiles),
)
