"""`python -m infra.docs [--to FOLDER]`: writes `openapi.json` and `asyncapi.json`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import orjson

from infra.docs.asyncapi import asyncapi
from infra.docs.openapi import openapi
from shared.errors import MillraceError, Permanent

FOLDER = Path("build") / "docs"
_FORM = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


def documents() -> dict[str, bytes]:
    """File name -> content; the same for the same code."""
    http = openapi()
    bus = asyncapi(http["info"]["version"])
    return {
        "openapi.json": orjson.dumps(http, option=_FORM),
        "asyncapi.json": orjson.dumps(bus, option=_FORM),
    }


def write(folder: Path) -> list[Path]:
    """Write them into a folder, which is made where it is missing.

    Raises:
        Permanent: `folder_not_writable`.
    """
    found: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, body in documents().items():
            found.append(folder / name)
            found[-1].write_bytes(body)
    except OSError as error:
        detail = f"{folder}: {error.strerror}; name another one with --to"
        raise Permanent("folder_not_writable", detail, field="to") from error
    return found


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="infra.docs", description=__doc__)
    parser.add_argument("--to", type=Path, default=FOLDER, metavar="FOLDER", help="where to write")
    try:
        for path in write(parser.parse_args().to):
            sys.stdout.write(f"{path}\n")
    except MillraceError as error:
        sys.stderr.write(f"infra.docs: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
