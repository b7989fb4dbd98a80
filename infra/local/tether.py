"""Ties a program to the life of its parent, then becomes that program.

Run as `python tether.py <pid of the parent> <program> <arguments ...>`. On Linux the kernel kills
the program when the parent dies, even by SIGKILL, so a killed supervisor leaves no orphans. The
flag survives `exec` (prctl(2), PR_SET_PDEATHSIG), which is why this is a program and not a
`preexec_fn`: that would run Python code in the forked child of a process with threads. Elsewhere
there is no such flag and only the orderly stop ends the children.

It must import nothing beyond the standard library: it runs without site-packages.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Set the flag, make sure that the parent is still there, and become the program."""
    parent, argv = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the flag was set
        sys.exit(1)
    os.execvp(argv[0], argv)  # noqa: S606  # this program's whole purpose


if __name__ == "__main__":
    main()
