"""Becomes the supervisor of the local system (`python -m infra.local`)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn


class Supervisor:
    """Starts the supervisor with an environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def __call__(self, arguments: Sequence[str]) -> NoReturn:
        """Replace this process: signals and the exit status then are the supervisor's own."""
        command = [sys.executable, "-m", "infra.local", *arguments]
        os.execve(sys.executable, command, self._environment)  # noqa: S606  # our own program
