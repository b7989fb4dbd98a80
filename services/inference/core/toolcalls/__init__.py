"""What a model's text means: one incremental parser per format, behind one protocol.

Which format a model speaks is `core/dialect.py`'s to know. Must not know tokens or engines.
"""

from services.inference.core.toolcalls.events import (
    Event,
    MalformedToolCall,
    Parser,
    ReasoningDelta,
    TextDelta,
    ToolCall,
)
from services.inference.core.toolcalls.reader import Reader

__all__ = [
    "Event",
    "MalformedToolCall",
    "Parser",
    "Reader",
    "ReasoningDelta",
    "TextDelta",
    "ToolCall",
]
