"""Owns the alarm over prompts that do not begin as the session's last one did.

Must not know engines or templates. A prefix cache helps a loop only as long as each prompt begins
with the one before it. A template or a message that changes what was said earlier breaks that
silently: every step is then computed from its first token. So it is counted.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Hashable, Sequence

_MOST_BYTES = 64 << 20


class PrefixWatch:
    """The last prompt of recent sessions, four bytes a token, within a bound of memory."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most, self._held = most_bytes, 0
        self._last: OrderedDict[Hashable, bytes] = OrderedDict()
        self.broken = 0
        """How many prompts did not begin with the one before them."""

    def see(self, session: Hashable, prompt: Sequence[int]) -> None:
        """The next prompt of a session."""
        now = array("I", prompt).tobytes()
        before = self._last.pop(session, b"")
        self._held += len(now) - len(before)
        # a step that is tried again has the same prompt, and one that was forked a shorter one
        self.broken += not (now.startswith(before) or before.startswith(now))
        self._last[session] = now
        while self._held > self._most:
            _, oldest = self._last.popitem(last=False)
            self._held -= len(oldest)

    def forget(self, session: Hashable) -> None:
        """There is no next prompt of a session."""
        self._held -= len(self._last.pop(session, b""))
