"""The error of one request; a package here, a module in the real library."""

from __future__ import annotations


class RequestError(RuntimeError):
    """This request failed, the engine did not."""
