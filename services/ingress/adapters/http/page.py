"""The first page: what runs here and what to try. Plain HTML without scripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

_EXAMPLES = (
    (
        "Run a durable task and wait for its result",
        """curl -s {url}/v1/tasks -H 'Content-Type: application/json' -H 'Prefer: wait=60' \\
  -d '{{"agent": "{agent}", "input": "What is 17 * 23?"}}'""",
    ),
    (
        "The same agent through the OpenAI API, streamed",
        """curl -sN {url}/v1/chat/completions -H 'Content-Type: application/json' \\
  -d '{{"model": "agent:{agent}", "stream": true,
       "messages": [{{"role": "user", "content": "What is 17 * 23?"}}]}}'""",
    ),
    (
        "Store a document and search it",
        """curl -s -X PUT {url}/v1/collections/default/documents/opening-hours \\
  -H 'Content-Type: text/plain' -d 'The library opens at nine.'
curl -s {url}/v1/collections/default/search -H 'Content-Type: application/json' \\
  -d '{{"query": "When does the library open?"}}'""",
    ),
)
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; }
pre { padding: .8rem 1rem; overflow-x: auto; border: 1px solid #8886; border-radius: 6px;
      font-size: .85rem; }
.ok { color: #187a3c; } .off { color: #b3261e; } td { padding: .1rem 1.5rem .1rem 0; }
"""


def render(models: Iterable[Mapping[str, object]], missing: list[str], url: str) -> str:
    """The page, for the models that there are and the parts that are away."""
    known = list(models)
    agents = [name[6:] for one in known if (name := str(one["id"])).startswith("agent:")]
    example = {"url": url, "agent": agents[0] if agents else "assistant"}
    away = ", ".join(map(escape, missing))
    state = (
        f'<p class="off">Waiting for: {away}.</p>'
        if missing
        else '<p class="ok">Everything is running.</p>'
    )
    rows = "".join(
        f"<tr><td><code>{escape(str(one['id']))}</code></td>"
        f"<td>{escape(str(one['owned_by']).removeprefix('millrace:'))}</td></tr>"
        for one in known
    )
    examples = "".join(
        f"<h3>{escape(title)}</h3><pre>{escape(text.format(**example))}</pre>"
        for title, text in _EXAMPLES
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Millrace</title>'
        f"<style>{_STYLE}</style></head><body><h1>Millrace</h1>"
        "<p>An inference layer for agents: durable loops over NATS JetStream.</p>"
        f"{state}<h2>What can stand in <code>model</code></h2><table>{rows}</table>"
        f"<h2>Try it</h2>{examples}"
        '<p><a href="/docs">API documentation</a> · <a href="/openapi.json">OpenAPI</a> · '
        '<a href="/v1/models">models</a> · <a href="/readyz">readiness</a> · '
        '<a href="/metrics">metrics</a></p></body></html>'
    )
