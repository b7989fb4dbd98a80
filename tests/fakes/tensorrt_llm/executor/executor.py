"""The error of the runtime below."""

from __future__ import annotations


class CppExecutorError(RuntimeError):
    """Something in the engine itself."""

    def __init__(self, message: str | None = None) -> None:
        self.message = message
        self.stack_trace = ""
        super().__init__(message)
