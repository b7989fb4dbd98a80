"""The files of a run: Locust's HTML report with our part in front of it, and the result as JSON."""

from __future__ import annotations

from pathlib import Path

import jinja2
import msgspec

from loadtests.result import Result
from loadtests.table import COLUMNS, row, sums, told
from shared.errors import Broken

_TEMPLATE = Path(__file__).parent / "report.html.j2"
_ROOT = '<div id="root">'
"""Where Locust's own report begins; its page is one file that needs nothing from elsewhere."""


def page(result: Result, locust: str) -> str:
    """Locust's page with our section at its beginning.

    Raises:
        Broken: `unknown_report` where Locust's page has another form than it had.
    """
    before, mark, after = locust.rpartition(_ROOT)
    if not mark:
        raise Broken("unknown_report", f"Locust's report has no {_ROOT}: see loadtests/report.py")
    return f"{before}{section(result)}{mark}{after}"


def section(result: Result) -> str:
    """Our metrics and the verdict as HTML; everything that was said from outside is escaped."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_TEMPLATE.read_text()).render(
        result=result,
        columns=COLUMNS,
        rows=[row(line) for line in result.lines],
        sums=sums(result).strip().splitlines(),
        breaches=[told(breach) for breach in result.breaches],
    )


def write(folder: Path, result: Result, locust: str) -> tuple[Path, Path]:
    """Write both; where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    html, data = folder / "report.html", folder / "result.json"
    html.write_text(page(result, locust))
    data.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    return html, data
