"""`make audit`: the locked packages against the published advisories, said plainly.

pip-audit ends well where it could ask nobody; here that has an exit status of its own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")
OK, FOUND, UNKNOWN = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out of an audit, and the exit status for it."""

    status: int
    lines: tuple[str, ...]


def judge(packages: Sequence[dict[str, Any]]) -> Verdict:
    """The verdict on what pip-audit says of each package (`dependencies` of its JSON)."""
    asked = [one for one in packages if "skip_reason" not in one]
    wrong = [
        f"{one['name']} {one['version']}: {vulnerability['id']}, mended in "
        f"{', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for one in asked
        for vulnerability in one["vulns"]
    ]
    if wrong:
        return Verdict(FOUND, (*wrong, f"{len(wrong)} known vulnerabilities"))
    skipped = len(packages) - len(asked)
    if not asked:
        return Verdict(UNKNOWN, ("no advisory could be read: nothing is known of any package",))
    unknown = f", {skipped} are unknown to the advisories" if skipped else ""
    return Verdict(OK, (f"{len(asked)} packages, no known vulnerability{unknown}",))


def packages_of(lock: Path) -> list[dict[str, Any]]:
    """Ask pip-audit about a lock file; empty where it could not."""
    command = [
        sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes",
        "-r", str(lock), "-f", "json", "--progress-spinner", "off", "--timeout", "10",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603  # our own package
    try:
        found: list[dict[str, Any]] = orjson.loads(done.stdout)["dependencies"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return []
    return found


def main() -> int:
    """Audit every lock file; the worst status counts."""
    verdicts = {name: judge(packages_of(ROOT / name)) for name in LOCKS}
    for name, verdict in verdicts.items():
        for line in verdict.lines:
            sys.stdout.write(f"{name}: {line}\n")
    statuses = {verdict.status for verdict in verdicts.values()}
    return FOUND if FOUND in statuses else max(statuses)


if __name__ == "__main__":
    sys.exit(main())
