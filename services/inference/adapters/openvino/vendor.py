"""Owns the import of OpenVINO; every other module takes `ov` and `op` from here.

Importing openvino with its telemetry package present sends an event to a web analytics host and
writes into the home folder. A None in sys.modules makes that import fail, which openvino accepts.
The package ships stubs without a py.typed marker, hence the Any. Must not know models or requests.
"""

from __future__ import annotations

import sys
from typing import Any

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # blocks the import

import openvino  # type: ignore[import-untyped, unused-ignore]  # noqa: E402 - after the block
from openvino import opset13  # noqa: E402
from openvino._offline_transformations import (  # type: ignore[import-untyped, unused-ignore]  # noqa: E402
    paged_attention_transformation,
)

ov: Any = openvino
op: Any = opset13
to_paged_attention: Any = paged_attention_transformation
VERSION = str(openvino.__version__)
