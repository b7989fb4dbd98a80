"""The fixtures of the suite of chat models, here too."""

from tests.contract.engines.conftest import harness, started_chat

__all__ = ["harness", "started_chat"]
