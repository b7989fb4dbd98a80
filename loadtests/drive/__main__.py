"""`python -m loadtests.drive`: a plan on standard input, figures and Locust's report in its folder.

A process of its own, because gevent belongs into one: whoever starts it stays an ordinary program.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import msgspec

from loadtests.drive.bridge import Bridge
from loadtests.drive.desk import Desk
from loadtests.drive.nats import Wire
from loadtests.drive.phases import Load, floor, say
from loadtests.plan import Ends, Plan, Raw
from shared.errors import MillraceError


def run(plan: Plan) -> tuple[Raw, str]:
    """All phases; what they measured, and Locust's report."""
    with Bridge() as bridge:
        wire = Wire(plan) if plan.nats else None
        if wire is not None:
            bridge.call(wire.open())
        try:
            return _run(Desk(plan, bridge, wire))
        finally:
            if wire is not None:
                bridge.call(wire.close())


def _run(desk: Desk) -> tuple[Raw, str]:
    profile = desk.plan.profile
    load = Load(desk)
    say(f"the floor: one client alone, {len(profile.mix)} operations")
    before = floor(desk)
    steps = desk.wire.steps if desk.wire else 0
    say(f"the load: up to {profile.users} clients for {profile.seconds:g} s")
    during = load.run()
    steps = desk.wire.steps - steps if desk.wire else 0
    say("the floor again")
    after = floor(desk)
    ends = desk.bridge.call(desk.wire.ends()) if desk.wire else Ends()
    raw = Raw(
        before=before,
        load=during,
        after=after,
        users=load.users,
        ends=msgspec.structs.replace(ends, steps=steps),
        crashes=load.crashes,
    )
    html = load.html()
    load.close()
    return raw, html


def main() -> int:
    """Read, run, write."""
    logging.basicConfig(level="ERROR")
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    folder = Path(plan.folder)
    try:
        raw, html = run(plan)
    except MillraceError as error:
        sys.stderr.write(f"load: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    (folder / "locust.html").write_text(html)
    (folder / "raw.json").write_bytes(msgspec.json.encode(raw))
    return 0


if __name__ == "__main__":
    sys.exit(main())
