"""Makes this working tree usable from its virtual environment: imports and the `millrace` command.

A path file instead of an editable install: that would need a build backend, which no lock covers.
It runs before anything else works, so it imports the standard library only.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def command_text(python: Path) -> str:
    """The `millrace` script; `-P` keeps the caller's folder from shadowing our packages."""
    return f'#!/bin/sh\nexec "{python}" -P -m services.cli "$@"\n'


def main() -> None:
    """Write both files; writing them again changes nothing."""
    paths = sysconfig.get_paths()
    (Path(paths["purelib"]) / "millrace.pth").write_text(f"{ROOT}\n")
    command = Path(paths["scripts"]) / "millrace"
    command.write_text(command_text(Path(paths["scripts"]) / "python"))
    command.chmod(0o755)


if __name__ == "__main__":
    main()
