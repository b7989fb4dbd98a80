"""Events as JSON, rendered once however many watch the same session."""

from __future__ import annotations

import orjson

from services.ingress.core.tasks.state import event_data
from shared.contracts.log import Event

_KEPT, _LONGEST = 256, 16_384
"""Events, and bytes of one: what is longer is rare, and too dear to keep."""


class EventJson:
    """The viewers of a process are shown the same facts and deltas at about the same time."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[object, bytes]] = {}

    def of(self, event: Event) -> bytes:
        """The JSON of an event, without its id: that may differ from viewer to viewer."""
        kept = self._kept.get(id(event.data))
        if kept is not None and kept[0] is event.data:
            return kept[1]
        body = orjson.dumps(event_data(event))
        if len(body) <= _LONGEST:
            if len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[id(event.data)] = (event.data, body)
        return body

    def frame(self, event: Event, retry_ms: int = 0) -> bytes:
        """A server-sent event; `retry_ms` tells the client how soon to come back."""
        head = b"retry: %d\n" % retry_ms if retry_ms else b""
        return b"%sid: %s\nevent: %s\ndata: %s\n\n" % (
            head,
            event.id.encode(),
            event.kind.encode(),
            self.of(event),
        )
