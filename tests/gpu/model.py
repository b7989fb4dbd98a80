"""The model that the tests of this folder use."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "MILLRACE_GPU_MODEL"
FOLDER = Path(os.environ.get(VARIABLE, ""))  # noqa: TID251 - a test's own setting
