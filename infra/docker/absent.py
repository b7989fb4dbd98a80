"""Prints the entries of a lock file whose packages this interpreter does not have.

For images whose own packages must stay as they are: `python absent.py requirements.lock`. Names
behind the file are printed whether they are there or not. Needs nothing but Python.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

_NAME = re.compile(r"^([A-Za-z0-9._-]+)==")


def entries(lock: str) -> Iterator[tuple[str, str]]:
    """Each package's name and its whole entry, hashes included."""
    entry: list[str] = []
    for line in lock.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if _NAME.match(line) and entry:
            yield _named(entry)
            entry = []
        entry.append(line)
    if entry:
        yield _named(entry)


def _named(entry: list[str]) -> tuple[str, str]:
    found = _NAME.match(entry[0])
    if found is None:
        raise ValueError(f"not an entry of a lock: {entry[0]!r}")
    return found[1], "\n".join(entry)


def normal(name: str) -> str:
    """A name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def absent(lock: str, replaced: Iterable[str] = ()) -> Iterator[str]:
    """The entries of what is not installed, and of what is to be replaced."""
    there = {normal(str(one.metadata["Name"])) for one in metadata.distributions()}
    there -= set(map(normal, replaced))
    return (entry for name, entry in entries(lock) if normal(name) not in there)


if __name__ == "__main__":
    found = absent(Path(sys.argv[1]).read_text("utf-8"), sys.argv[2:])
    sys.stdout.writelines(f"{entry}\n" for entry in found)
