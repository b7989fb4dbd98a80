"""Owns the putting together of a chat model behind an endpoint; called for `engine: provider`."""

from __future__ import annotations

from typing import cast

import structlog

from services.inference.adapters.provider.chat import ProviderChat, Wire
from services.inference.adapters.provider.key import Variables, key_of
from shared.models import ProviderModel
from shared.telemetry import Log


def build_provider(row: ProviderModel, variables: Variables) -> ProviderChat:
    """Find the key now, meet the endpoint when it starts.

    Raises:
        Permanent: `missing_key`.
    """
    log = cast("Log", structlog.get_logger(service="inference", model=row.name))
    return ProviderChat(row, _wire(row, variables), log)


def _wire(row: ProviderModel, variables: Variables) -> Wire:
    """Each dialect is imported where it is spoken: the other one's library need not be there."""
    key = key_of(row, variables)
    if row.api == "anthropic":
        from services.inference.adapters.provider.anthropic_wire import AnthropicWire

        return AnthropicWire(row, key)
    from services.inference.adapters.provider.openai_wire import OpenAiWire

    return OpenAiWire(row, key)
