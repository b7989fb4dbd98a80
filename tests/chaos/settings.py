"""What the suite's own processes read from the environment."""

from __future__ import annotations

import os


def chaos_seed() -> int:
    """The seed of this run."""
    return int(os.environ.get("CHAOS_SEED", "1"))


def chaos_name() -> str:
    """The name of this program in the suite: `tools-2`, for example."""
    return os.environ.get("CHAOS_NAME", "")
