"""`python -m loadtests`: finds or starts a system, has it loaded, judges, prints, writes.

Exit status: 0 all rules hold, 1 one does not (or the system is not there), 2 wrong arguments.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from rich.console import Console

from infra.demo.system import system
from infra.local.plan import SERVICES
from infra.local.readiness import wait_until_ready
from infra.local.settings import ROOT, LocalSettings, inherited_environment
from loadtests import report
from loadtests.baseline import baseline_of, read_baseline, write_baseline
from loadtests.operations import OPERATIONS
from loadtests.options import Options, parse
from loadtests.plan import Plan, Raw
from loadtests.profiles import Profile, only
from loadtests.questions import read_questions
from loadtests.result import Result, Setting
from loadtests.table import show
from loadtests.verdict import judge
from shared.clock import mint_id, utc
from shared.errors import Broken, MillraceError, Permanent, Transient

_READY_WITHIN = 60.0
_WIDTH = 120


@asynccontextmanager
async def target(options: Options, settings: LocalSettings) -> AsyncIterator[str]:
    """The address of a ready system: the one that was named, else that of the data folder.

    Raises:
        Transient: `not_ready`.
    """
    if not options.url:
        async with system(settings) as url:
            yield url
        return
    try:
        async with asyncio.timeout(_READY_WITHIN):
            await wait_until_ready(options.url, SERVICES, lambda missing: None)
    except TimeoutError as error:
        raise Transient("not_ready", f"the system at {options.url} is not ready") from error
    yield options.url


def within_reach(profile: Profile, *, nats: bool) -> Profile:
    """The profile without what needs a broker that nobody knows.

    Raises:
        Permanent: `no_operations` where nothing is left.
    """
    if nats:
        return profile
    names = tuple(name for name in profile.mix if OPERATIONS[name].way != "nats")
    if not names:
        raise Permanent("no_operations", "without MILLRACE_NATS_URL there is no NATS", field="only")
    return only(profile, names)


async def drive(plan: Plan, settings: LocalSettings) -> tuple[Raw, str]:
    """The load, in a process of gevent's own; the figures, and Locust's report.

    Raises:
        Broken: `driver_failed`; it has told why.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtests.drive"),
        stdin=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=inherited_environment()
        | settings.for_services()
        | {"LOCUST_SKIP_MONKEY_PATCH": "1", "PYTHONPATH": str(ROOT)},
    )
    try:
        await process.communicate(msgspec.json.encode(plan))
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if process.returncode:
        raise Broken("driver_failed", f"the driving process ended with {process.returncode}")
    folder = Path(plan.folder)
    raw = msgspec.json.decode((folder / "raw.json").read_bytes(), type=Raw)
    return raw, (folder / "locust.html").read_text()


async def run(console: Console, options: Options) -> int:
    """The exit status."""
    settings = LocalSettings()
    nats = not options.url or settings.nats_url is not None
    profile = within_reach(options.profile, nats=nats)
    questions, baseline = read_questions(options.questions), read_baseline(profile.name)
    run_id, started = mint_id("load")[:18], utc().isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory() as folder:
        async with target(options, settings) as url:
            plan = Plan(
                url=url,
                nats=nats,
                profile=profile,
                questions=questions,
                tenants=options.tenants,
                run=run_id,
                folder=folder,
            )
            raw, html = await drive(plan, settings)
    setting = _setting(plan, raw, started)
    result = judge(raw, profile, setting, None if options.save_baseline else baseline)
    files = report.write(options.out or settings.data / "load", result, html)
    show(console, result)
    for path in files:
        console.print(str(path), markup=False, soft_wrap=True)
    return _kept(console, result) if options.save_baseline else int(not result.passed)


def _setting(plan: Plan, raw: Raw, started: str) -> Setting:
    profile = plan.profile
    return Setting(
        run=plan.run,
        profile=profile.name,
        curve=profile.curve,
        users=raw.users,
        seconds=raw.load.seconds,
        tenants=len(plan.tenants),
        mix=profile.mix,
        url=plan.url,
        cores=os.cpu_count() or 1,
        started=started,
    )


def _kept(console: Console, result: Result) -> int:
    """A run that breaks a rule is nothing to compare with."""
    if not result.passed:
        console.print("no baseline was written")
        return 1
    console.print(f"baseline: {write_baseline(baseline_of(result))}", markup=False, soft_wrap=True)
    return 0


def main() -> int:
    """Parse the command line and run; an error is told in its own words."""
    try:
        options = parse(sys.argv[1:])
    except MillraceError as error:
        sys.stderr.write(f"load: {error}\n")
        return 2
    try:
        return asyncio.run(run(Console(highlight=False, width=_WIDTH), options))
    except MillraceError as error:
        sys.stderr.write(f"load: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
