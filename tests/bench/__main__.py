"""`make bench`: what Millrace itself costs, against a floor measured in the same run.

    make bench                 all
    make bench ARGS=loop       a step of the durable loop
    make bench ARGS=direct     a stateless completion over HTTP
    make bench ARGS=viewers    five thousand idle viewers of one ingress
    make bench ARGS=watching   what metrics and traces cost the loop
    make bench ARGS=engine     the small model through the bus, against its engine alone

Model and tools are instant but for `engine`, every service is a process, every fact is fsynced. A
floor passes the same messages along with nothing in them. Read the ratios: the machine's speed
cancels out of them.
"""

from __future__ import annotations

import argparse

import uvloop

from tests.bench import direct, engine, loop, viewers, watching

BENCHES = {
    "loop": loop.bench,
    "direct": direct.bench,
    "viewers": viewers.bench,
    "watching": watching.bench,
    "engine": engine.bench,
}


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", nargs="*", choices=[*BENCHES, []], help="default: all")
    for name in parser.parse_args().what or BENCHES:
        uvloop.run(BENCHES[name]())


if __name__ == "__main__":
    main()
