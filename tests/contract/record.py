"""Records sessions of a running system for `test_histories.py`:

    python -m tests.contract.record SESSION [--tenant T] [--name FILE]

Each becomes a file in `histories/`. A file is never edited: later releases must decide as it shows.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from shared.client import Millrace
from shared.errors import MillraceError
from tests.contract.history_file import write_history

HISTORIES = Path(__file__).parent / "histories"


async def record(session: str, tenant: str, name: str) -> str:
    """Write the history of a session; answers what was written."""
    async with Millrace.connect(tenant=tenant) as client:
        facts = await client.session(session).history()
    path = HISTORIES / f"{name}.jsonl"
    if not facts:
        return f"session {tenant}/{session} has no facts"
    if path.exists():
        return f"{path} is there already and is not replaced"
    write_history(path, facts)
    return f"{path}: {len(facts)} facts"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("session")
    parser.add_argument("--tenant", default="default")
    parser.add_argument("--name", help="of the file; the session's by default")
    given = parser.parse_args()
    try:
        text = asyncio.run(record(given.session, given.tenant, given.name or given.session))
    except MillraceError as error:
        sys.exit(str(error))
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
