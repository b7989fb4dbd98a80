"""What some of these tests need of the machine that they run on."""

from __future__ import annotations

import shutil

import pytest

OPENSSL = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="certificates are made with openssl, which is not here"
)
