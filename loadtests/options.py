"""The command line of `make load`: wrong arguments are typed errors that name the field."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from loadtests.operations import OPERATIONS
from loadtests.plan import Tenant
from loadtests.profiles import PROFILES, Profile, checked, only
from loadtests.questions import DEFAULT
from shared.contracts.base import check_token
from shared.errors import Permanent

EPILOG = "profiles:\n" + "\n".join(f"  {p.name:<9}{p.about}" for p in PROFILES.values())
EPILOG += "\n\noperations (--only):\n"
EPILOG += "\n".join(f"  {name:<21}{op.about}" for name, op in OPERATIONS.items())


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for. An empty `url` is the system of the data folder."""

    profile: Profile
    tenants: tuple[Tenant, ...]
    url: str = ""
    questions: Path = DEFAULT
    out: Path | None = None
    save_baseline: bool = False


def parse(argv: Sequence[str]) -> Options:
    """The options of a command line.

    Raises:
        Permanent: `unknown_profile`, `unknown_operation`, `invalid_profile`, `invalid_number`,
            `invalid_url`, `invalid_keys`, `invalid_name`.
    """
    found = _parser().parse_args(argv)
    profile = _profile(found)
    tenants = _tenants(found.keys, profile)
    profile = msgspec.structs.replace(profile, tenants=len(tenants))
    return Options(
        profile=profile,
        tenants=tenants,
        url=_url(found.url),
        questions=Path(found.questions),
        out=Path(found.out) if found.out else None,
        save_baseline=found.save_baseline,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make load ARGS=...",
        description="Load a running system, and judge it by a floor measured in the same run.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--profile", default="short", help="who comes when (default: short)")
    add("--users", help="the most clients at the same time")
    add("--seconds", help="how long the load lasts")
    add("--tenants", help="among how many tenants the clients are")
    add("--pause", help="seconds between two operations of a client")
    add("--only", help="these operations, with commas between")
    add("--url", default="", help="a system elsewhere; NATS by MILLRACE_NATS_URL, else without")
    add("--keys", help="a file with lines `<tenant> <API key>`, where keys are needed")
    add("--questions", default=str(DEFAULT), help="what is asked and expected (YAML)")
    add("--out", help="folder of report.html and result.json (default: load/ in the data folder)")
    add("--save-baseline", action="store_true", help="keep the ratios in loadtests/baselines/")
    return parser


def _profile(found: argparse.Namespace) -> Profile:
    profile = PROFILES.get(found.profile)
    if profile is None:
        text = f"no profile {found.profile!r}; there are {', '.join(PROFILES)}"
        raise Permanent("unknown_profile", text, field="profile")
    if found.only:
        profile = only(profile, tuple(name.strip() for name in found.only.split(",")))
    changes: dict[str, float] = {}
    kinds: dict[str, Callable[[str], float]] = {
        "users": int, "seconds": float, "tenants": int, "pause": float,
    }  # fmt: skip
    for name, kind in kinds.items():
        if (text := getattr(found, name)) is not None:
            changes[name] = _number(name, text, kind)
    return checked(msgspec.structs.replace(profile, **changes))


def _number(name: str, text: str, kind: Callable[[str], float]) -> float:
    try:
        return kind(text)
    except ValueError as error:
        wanted = "a whole number" if kind is int else "a number"
        detail = f"--{name} is {wanted}, not {text!r}"
        raise Permanent("invalid_number", detail, field=name) from error


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.username is not None:
        detail = "a password belongs into no address: see --keys"
        raise Permanent("invalid_url", detail, field="url")
    if text and (parts.scheme not in {"http", "https"} or not parts.hostname):
        detail = f"{text!r} is no address such as http://host:8080"
        raise Permanent("invalid_url", detail, field="url")
    return text.rstrip("/")


def _tenants(keys: str | None, profile: Profile) -> tuple[Tenant, ...]:
    """Those of the file; without one as many as the profile wants, named by number."""
    if keys is None:
        if profile.tenants == 1:
            return (Tenant("default"),)
        return tuple(Tenant(f"load-{number}") for number in range(1, profile.tenants + 1))
    try:
        lines = [line.split() for line in Path(keys).read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        detail = f"{keys} cannot be read: {type(error).__name__}"
        raise Permanent("invalid_keys", detail, field="keys") from error
    for number, line in enumerate(lines, 1):
        if len(line) != 2:
            detail = f"line {number} of {keys} is not `<tenant> <API key>`"
            raise Permanent("invalid_keys", detail, field="keys")
    if not lines:
        raise Permanent("invalid_keys", f"{keys} holds no key", field="keys")
    return tuple(Tenant(check_token(name, "keys"), key) for name, key in lines)
