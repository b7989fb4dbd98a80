"""`python -m infra.nats`: keys, configuration and certificates of the bus, and the deploy step.

write FOLDER        everything that a server in a container needs
tenant NAME         a user for a tenant's own clients, also while the system runs
site NAME           a user for the link of another site, of which this one is the hub
topology [--keep]   make the streams, with the operator's key, and join them to other sites'
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePath

import orjson

from infra.nats.certificates import ensure_certificates
from infra.nats.config import Server, server_text
from infra.nats.joining import neighbours
from infra.nats.keys import (
    TLS_FOLDER,
    ensure_site,
    ensure_tenant,
    hub_of,
    write_security,
)
from infra.nats.reloading import reload
from infra.nats.topology import deploy, run
from infra.private_file import write_private
from shared.errors import MillraceError, Permanent, Transient
from shared.settings import BusSettings
from shared.telemetry import configure

_SERVER = re.compile(r"nats(-\d+)?")
"""What a local system calls its server, or those of its cluster."""


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except MillraceError as error:
        sys.stderr.write(f"infra.nats: {error.code}: {error.detail}\n")
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.nats", description=__doc__)
    commands = parser.add_subparsers(required=True)
    writing = commands.add_parser("write", help="keys, server.conf, security.conf, certificates")
    writing.add_argument("folder", type=Path)
    writing.add_argument("--mount", type=PurePath, help="where the server will see the folder")
    writing.add_argument("--tls", action="store_true", help="certificates, asked of clients too")
    writing.add_argument("--host", action="append", default=[], help="a name of the server's")
    writing.add_argument("--tenant", action="append", default=[], help="one with own clients")
    for name in ("listen", "store", "sync", "monitor"):
        writing.add_argument(f"--{name}", default=getattr(Server(), name))
    writing.set_defaults(run=_write)
    tenant = commands.add_parser("tenant", help="a user for a tenant's own clients")
    site = commands.add_parser("site", help="a user for the link of another site")
    for adding, run_it in ((tenant, _tenant), (site, _site)):
        adding.add_argument("name")
        adding.add_argument("--folder", type=Path, help="default: that of the local system")
        adding.add_argument("--json", action="store_true", help="say it as JSON")
        adding.set_defaults(run=run_it)
    site.add_argument("--hub", default="", help="what sites call this hub, its JetStream domain")
    _add_topology(commands.add_parser("topology", help="make the streams"))
    return parser


def _add_topology(topology: argparse.ArgumentParser) -> None:
    topology.add_argument("--keep", action="store_true", help="and again after every reconnect")
    topology.add_argument(
        "--copies-of",
        action="append",
        default=[],
        metavar="SITE",
        help="at a hub: one of its sites",
    )
    topology.add_argument("--site", default="", help="at a site: its name")
    topology.add_argument("--hub", default="", help="at a site: the name of its hub")
    topology.add_argument(
        "--monitor",
        action="append",
        default=[],
        metavar="URL",
        help="where a server tells of links",
    )
    topology.set_defaults(run=_topology)


def _write(options: argparse.Namespace) -> None:
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    tls = None
    if options.tls:
        ensure_certificates(folder / TLS_FOLDER, options.host or ["localhost", "127.0.0.1"])
        tls = (options.mount or folder.absolute()) / TLS_FOLDER
    for tenant in options.tenant:
        ensure_tenant(folder, tenant)
    security = write_security(folder)
    server = Server(options.listen, options.store, options.sync, tls, options.monitor)
    write_private(folder / "server.conf", server_text(server).encode())
    sys.stdout.write(f"{folder}: server.conf, security.conf, {len(security.keys)} users\n")


def _tenant(options: argparse.Namespace) -> None:
    path, told = _added(options, partial(ensure_tenant, tenant=options.name))
    url = "" if options.folder else _url(BusSettings())
    if options.json:
        found = {"file": str(path), "known": told, "url": url}
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
        return
    sys.stdout.write(
        f"{path}\n{_state(told)}. Clients: MILLRACE_NATS_URL={url or '...'} "
        f"MILLRACE_NATS_CREDS={path}, and Millrace.connect(tenant={options.name!r})\n"
    )


def _site(options: argparse.Namespace) -> None:
    path, told = _added(options, partial(_site_file, site=options.name, hub=options.hub))
    hub = hub_of(path.parents[1])
    if options.json:
        found = {"file": str(path), "known": told, "hub": hub}
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
        return
    sys.stdout.write(
        f"{path}\n{_state(told)}. The leaf node of {options.name} shows its seed. The streams: "
        f"topology --keep --copies-of {options.name} --monitor URL here, and "
        f"topology --keep --site {options.name} --hub {hub} --monitor URL there\n"
    )


def _site_file(folder: Path, *, site: str, hub: str) -> Path:
    """The key of a site; a hub that has any keeps its name, which the others know.

    Raises:
        Permanent: `hub_needed`, `invalid_name`.
    """
    known = hub_of(folder)
    if not known and not hub:
        detail = "say with --hub what the sites call this hub: the `domain` of its JetStream"
        raise Permanent("hub_needed", detail, field="hub")
    if known and hub not in ("", known):
        raise Permanent("invalid_name", f"its other sites call this hub {known!r}", field="hub")
    return ensure_site(folder, site, known or hub)


def _state(told: bool) -> str:
    return "the servers know it" if told else "a server knows it after its next (re)load"


def _added(options: argparse.Namespace, ensure: Callable[[Path], Path]) -> tuple[Path, bool]:
    """The file of a new user, and whether the running servers of a local system know it already.

    They read their users again; connections stay.

    Raises:
        Permanent: `folder_needed`, where the broker is somebody else's, who has its own users.
    """
    settings = BusSettings()
    if options.folder is None and settings.nats_url:
        raise Permanent(
            "folder_needed",
            "MILLRACE_NATS_URL names a broker that is not the data folder's: say with --folder "
            "where its users are, as `python -m infra.nats write` made them",
            field="folder",
        )
    path = ensure(options.folder or settings.data / "nats").absolute()
    write_security(path.parents[1])
    return path, options.folder is None and _reload(settings, path.parents[1])


def _url(settings: BusSettings) -> str:
    """Where the embedded server listens; empty while it does not run, or with a login in it."""
    try:
        url = settings.address().url
    except Transient:
        return ""
    return "" if "@" in url else url


def _reload(settings: BusSettings, folder: Path) -> bool:
    """Whether all servers of the local system, of which there is one at least, have done so."""
    try:
        running = orjson.loads((settings.data / "pids.json").read_bytes())
        count = sum(_SERVER.fullmatch(name) is not None for name in running)
        address, log = settings.address(), configure("reload", "critical")
        if count:
            asyncio.run(reload(address, folder, count, log))
    except (OSError, TypeError, ValueError, Transient):
        return False
    return bool(count)


def _topology(options: argparse.Namespace) -> None:
    others = neighbours(
        options.copies_of, options.site, options.hub, options.monitor, followed=options.keep
    )
    settings, log = BusSettings(), configure("topology", "info")
    keeping = run(settings, log, others) if options.keep else None
    asyncio.run(keeping or deploy(settings.address(), log, others))


if __name__ == "__main__":
    sys.exit(main())
