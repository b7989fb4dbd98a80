"""Asks a service of this container how it is: exit 0 where it says that all is well.

`python health.py http://127.0.0.1:9464/readyz`. Images have no curl. Needs nothing but Python.
"""

from __future__ import annotations

import sys
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

_PATIENCE = 4.0


def look(url: str) -> str:
    """What is wrong, in words; empty where nothing is."""
    if not url.startswith("http://127.0.0.1:"):
        return f"{url} is not a service of this container"
    try:
        # no proxy stands between a container and itself, whatever its environment says
        with build_opener(ProxyHandler({})).open(Request(url), timeout=_PATIENCE):  # noqa: S310
            return ""
    except HTTPError as error:
        return f"{url} answers {error.code}: {error.read(500).decode(errors='replace')}"
    except (URLError, OSError) as error:
        return f"{url} does not answer: {error}"


if __name__ == "__main__":
    wrong = look(sys.argv[1])
    sys.stderr.write(f"{wrong}\n" if wrong else "")
    sys.exit(bool(wrong))
