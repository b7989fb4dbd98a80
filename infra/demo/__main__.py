"""`python -m infra.demo`: exits 0 only if every answer is right."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict

from rich.console import Console
from rich.progress import Progress

from infra.demo.cases import CASES, HANDBOOK, Case, faults
from infra.demo.system import system
from infra.demo.view import Verdict, show, summary
from infra.demo.ways import Ways, open_ways
from infra.local.settings import LocalSettings
from shared.client import Documents, Millrace
from shared.clock import mint_id
from shared.contracts.log import StoredFact
from shared.errors import MillraceError, Permanent, Transient
from shared.timeline import timeline

_PATIENCE = 60.0


async def upload(console: Console, millrace: Millrace) -> None:
    """Store the handbook's changed pages and wait until the index has them."""
    documents = millrace.documents("default")
    newest = 0
    with Progress(console=console, transient=True) as progress:
        for page in progress.track(sorted(HANDBOOK.glob("*.md")), description="handbook"):
            text = page.read_text()
            known = await documents.get(page.name)
            if known is None or known.text != text:
                newest = await documents.upsert(page.name, text)
        await indexed(documents, newest)
    console.print(f"handbook: {len(list(HANDBOOK.glob('*.md')))} pages in the index")


async def indexed(documents: Documents, sequence: int) -> None:
    """Wait until the index has come this far."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            if (await documents.state()).watermark >= sequence:
                return
            await asyncio.sleep(0.1)


async def ended(millrace: Millrace, session: str, count: int) -> list[StoredFact]:
    """The facts of the session's newest task, once `count` tasks of the session have ended.

    Raises:
        Transient: `demo_timeout`.
    """
    seen, facts = 0, list[StoredFact]()
    try:
        async with asyncio.timeout(_PATIENCE):
            async for event in millrace.session(session).events():
                seen += event.kind == "done"
                if seen >= count:
                    break
            # any server of a cluster may answer, also one that is a moment behind
            while sum(one.kind == "done" for one in facts) < count:
                facts = await millrace.session(session).history()
    except TimeoutError as error:
        raise Transient(
            "demo_timeout", f"{seen} of {count} tasks of {session} ended in time"
        ) from error
    newest = next(stored.task for stored in reversed(facts) if stored.kind == "task")
    return [stored for stored in facts if stored.task == newest]


async def judge(ways: Ways, millrace: Millrace, case: Case, session: str, before: int) -> Verdict:
    """Run one case to its end; `before` tasks of its session have ended already."""
    refusals: list[str] = []
    submitted = 1
    try:
        submitted = await ways.submit(case, session)
    except Permanent as refused:
        if not await millrace.session(session).history():
            raise
        refusals.append(refused.detail)  # the task exists: show what the log says of it as well
    facts = await ended(millrace, session, before + submitted)
    line = timeline(facts, facts[0].task)
    if line is None:
        raise Transient("demo_empty", f"{session} has no task")
    return Verdict(case, line, faults(case, line, facts) + refusals)


async def run(console: Console) -> int:
    """The exit status."""
    settings = LocalSettings()
    verdicts: list[Verdict] = []
    run_id = mint_id("demo")[:20]
    done: defaultdict[str, int] = defaultdict(int)
    console.print("waiting for the system ...")
    async with system(settings) as url, open_ways(url, settings.address()) as (ways, millrace):
        await upload(console, millrace)
        for number, case in enumerate(CASES, 1):
            session = f"{run_id}-{case.session}"
            verdict = await judge(ways, millrace, case, session, done[session])
            done[session] += 1
            verdicts.append(verdict)
            show(console, number, verdict)
    summary(console, verdicts)
    return int(any(verdict.faults for verdict in verdicts))


def main() -> int:
    """Run it; an error of the system is told in its own words."""
    try:
        return asyncio.run(run(Console(highlight=False)))
    except MillraceError as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
