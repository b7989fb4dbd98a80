"""Server-sent events, read line by line (WHATWG, "Event stream interpretation"). Pure."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event; its name is `message` where it has none."""

    name: str
    data: str


@dataclass
class EventReader:
    """Takes the lines of a stream, without their ends."""

    _name: str = ""
    _data: list[str] = field(default_factory=list)

    def line(self, line: str) -> ServerEvent | None:
        """The next line; an event where it ends one. Comments and ids are passed over."""
        if not line:
            return self._finish()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        return None

    def _finish(self) -> ServerEvent | None:
        name, data = self._name or "message", self._data
        self._name, self._data = "", []
        return ServerEvent(name, "\n".join(data)) if data else None
