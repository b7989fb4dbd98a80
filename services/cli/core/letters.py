"""Which dead letters a person means: `session=s1`, `consumer=router`, `code=no_worker` (pure)."""

from __future__ import annotations

from collections.abc import Iterable

from shared.contracts.dead import Wanted

NAMES = ("session", "consumer", "code")


def read_wanted(pairs: Iterable[str]) -> Wanted:
    """The filter that some `name=value` stand for.

    Raises:
        ValueError: what is wrong and what can stand there.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if name not in NAMES or not sign or not value:
            raise ValueError(
                f"--where takes {', '.join(f'{one}=...' for one in NAMES)}, not {pair!r}"
            )
        found[name] = value
    return Wanted(**found)
