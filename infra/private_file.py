"""Files with secrets in them."""

from __future__ import annotations

import os
from pathlib import Path


def write_private(path: Path, body: bytes, mode: int = 0o600) -> None:
    """Replace a file in one step, readable by its owner alone unless `mode` says otherwise.

    A link in its place is replaced, too: what it leads to is never written.
    """
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)  # whatever the mask of this process is
        file.write(body)
    draft.replace(path)
