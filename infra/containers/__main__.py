"""`python -m infra.containers up|down|secrets`: what `make up` and `make down` call."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from pydantic import ValidationError

from infra.containers import engine, secrets
from infra.local.settings import ROOT, LocalSettings, inherited_environment
from shared.errors import MillraceError, Permanent

PROFILES = ("gpu", "observability", "cluster")
NATS = "nats://127.0.0.1:4222"
"""Where compose.yaml lets this machine reach the broker."""


def folder(settings: LocalSettings) -> Path:
    """Where the secrets of the containers are, as compose.yaml expects them."""
    return settings.data.absolute() / "containers"


def for_compose(settings: LocalSettings) -> dict[str, str]:
    """The variables of compose.yaml, with a data folder that is the same from everywhere."""
    return inherited_environment() | {"MILLRACE_DATA": str(settings.data.absolute())}


def for_demo(settings: LocalSettings) -> dict[str, str]:
    """What leads the demo to the containers, whatever else this shell has been told."""
    rest = inherited_environment()
    for name in ("MILLRACE_NATS_TOKEN", "MILLRACE_SECRETS", "MILLRACE_HTTP_HOST"):
        rest.pop(name, None)
    return rest | as_operator(settings)


def as_operator(settings: LocalSettings) -> dict[str, str]:
    """How a client of this machine is the operator of the containers."""
    place = folder(settings)
    return {
        "MILLRACE_NATS_URL": NATS,
        "MILLRACE_NATS_CREDS": str(place / "users" / "admin.nk"),
        "MILLRACE_NATS_CA": str(place / "tls" / "ca.pem"),
    }


async def up(settings: LocalSettings, profiles: list[str], *, demo: bool) -> int:
    """Start everything and show that it works; the exit status.

    Raises:
        Permanent: `no_container_engine` and its like; `containers_not_ready`.
    """
    prefix = engine.compose(await engine.docker(), ROOT, profiles)
    secrets.write(folder(settings))
    if await engine.run(engine.up(prefix), ROOT, for_compose(settings)):
        raise Permanent(
            "containers_not_ready",
            "not everything became healthy; `docker compose ps --all` says what, and "
            "`docker compose logs NAME` why",
        )
    sys.stdout.write(_where(settings))
    sys.stdout.flush()
    if not demo:
        return 0
    return await engine.run([sys.executable, "-m", "infra.demo"], ROOT, for_demo(settings))


async def down(settings: LocalSettings, *, volumes: bool) -> int:
    """Stop everything, of every profile; the exit status.

    Raises:
        Permanent: `no_container_engine` and its like.
    """
    prefix = engine.compose(await engine.docker(), ROOT, PROFILES)
    return await engine.run(engine.down(prefix, volumes=volumes), ROOT, for_compose(settings))


def _where(settings: LocalSettings) -> str:
    operator = "".join(f"\n         export {k}={v}" for k, v in as_operator(settings).items())
    return f"""
Millrace runs in containers.

  HTTP   http://127.0.0.1:{settings.http_port}, with an API key:
         docker compose exec topology python -m services.cli keys create --admin
  NATS   {NATS}, with TLS; as its operator:{operator}
         .venv/bin/millrace workers
  stop   make down  (ARGS=--volumes: and forget all data)

"""


def read(arguments: list[str]) -> argparse.Namespace:
    """The command and its options."""
    parser = argparse.ArgumentParser(prog="millrace-containers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("up", help="start everything, then run the demo against it")
    starting.add_argument("--profile", action="append", default=[], choices=PROFILES)
    starting.add_argument("--no-demo", action="store_true", help="start it, and no more")
    stopping = commands.add_parser("down", help="stop everything")
    stopping.add_argument("--volumes", action="store_true", help="and forget all data")
    making = commands.add_parser("secrets", help="make the files with secrets that are missing")
    making.add_argument("--kubernetes", action="store_true", help="those of infra/k8s/README.md")
    return parser.parse_args(arguments)


async def do(options: argparse.Namespace) -> int:
    """One command; the exit status."""
    settings = LocalSettings()
    if options.command == "up":
        return await up(settings, options.profile, demo=not options.no_demo)
    if options.command == "down":
        return await down(settings, volumes=options.volumes)
    if options.kubernetes:
        place = settings.data.absolute() / "kubernetes"
        secrets.write(place, secrets.PODS, stores=False)
    else:
        place = folder(settings)
        secrets.write(place)
    sys.stdout.write(f"{place}\n")
    return 0


def main(arguments: list[str]) -> int:
    """The exit status; an error is told in its own words."""
    try:
        return asyncio.run(do(read(arguments)))
    except MillraceError as error:
        sys.stderr.write(f"containers: {error.detail or error}\n")
        return 1
    except ValidationError as error:
        for one in error.errors():
            sys.stderr.write(f"containers: MILLRACE_{str(one['loc'][0]).upper()}: {one['msg']}\n")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
