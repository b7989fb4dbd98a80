"""The engine process of the look-alike: steps over a batch, paged cache with reuse, one response a
step and request. `main` is it as a process of its own, which is what the real library spawns; the
same machine runs in a thread for tests that need no process to kill.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tensorrt_llm.language import Language, Speech

Send = Callable[[str, int, Any], None]
"""What the rank says: `response` to a request, `stats`, `event`."""


@dataclass
class Running:
    """A request in the engine."""

    number: int
    prompt: list[int]
    params: dict[str, Any]
    speech: Speech | None = None
    cached: int = 0
    blocks: int = 0
    said: list[int] = field(default_factory=list)
    aborted: bool = False


class Cache:
    """Blocks: in use by requests, or kept for a prefix; the least recently used go first."""

    def __init__(self, total: int, size: int, events: Callable[[dict[str, Any]], None]) -> None:
        self.total, self.size, self.used = total, size, 0
        self._kept: OrderedDict[int, None] = OrderedDict()
        self._events = events
        events({"type": "created", "num_blocks_per_cache_level": [total, 0]})

    def admit(self, running: Running) -> bool:
        """Take the blocks that the request can need at most: nothing is evicted later."""
        most = len(running.prompt) + running.params["max_tokens"]
        wanted = -(-most // self.size)
        if self.used + wanted > self.total:
            return False
        names = self._names(running.prompt, running.params["salt"])
        hits = 0
        while hits < len(names) and names[hits] in self._kept and (
            (hits + 1) * self.size < len(running.prompt)
        ):  # fmt: skip
            hits += 1
        running.cached, running.blocks = hits * self.size, wanted
        self.used += wanted
        self._make_room()
        return True

    def release(self, running: Running) -> None:
        """Keep the full blocks of prompt and answer."""
        self.used -= running.blocks
        tokens = [*running.prompt, *running.said]
        names = self._names(tokens, running.params["salt"])
        new = [n for n, name in enumerate(names) if name not in self._kept]
        for name in names:
            self._kept[name] = None
            self._kept.move_to_end(name)
        if new:
            self._events(self._stored(names, tokens, new[0]))
        self._make_room()

    def _names(self, tokens: list[int], salt: str | None) -> list[int]:
        names, parent = [], hash(salt) & 0xFFFF_FFFF
        for start in range(0, len(tokens) - self.size + 1, self.size):
            parent = hash((parent, tuple(tokens[start : start + self.size]))) & (2**64 - 1)
            names.append(parent)
        return names

    def _stored(self, names: list[int], tokens: list[int], first: int) -> dict[str, Any]:
        blocks = [
            {
                "type": "stored_block",
                "block_hash": names[n],
                "tokens": [
                    {"type": "unique_token", "token_id": token, "token_extra_id": 0}
                    for token in tokens[n * self.size : (n + 1) * self.size]
                ],
                "cache_level": 0,
                "priority": 35,
            }
            for n in range(first, len(names))
        ]
        return {"type": "stored", "parent_hash": names[first - 1] if first else None,
                "blocks": blocks}  # fmt: skip

    def _make_room(self) -> None:
        gone = []
        while self._kept and self.used + len(self._kept) > self.total:
            gone.append(self._kept.popitem(last=False)[0])
        if gone:
            self._events({"type": "removed", "block_hashes": gone})


class Rank:
    """The machine. `turn` decides what is to go wrong: `fail`, `fatal`, `hang`."""

    def __init__(self, order: dict[str, Any], send: Send) -> None:
        self._send, self._pace = send, float(order["seconds_per_token"])
        self._slots, self._events_kept = order["slots"], order["events"]
        self.language = Language(order["folder"])
        self._event_id = self._iteration = 0
        self._cache = Cache(order["blocks"], order["block_tokens"], self._event)
        self._waiting: deque[Running] = deque()
        self._running: list[Running] = []
        self._inbox: deque[tuple[str, Any]] = deque()
        self._wake = threading.Event()
        self._fault = order["fault"]

    def tell(self, kind: str, what: Any) -> None:
        """From any thread: `submit`, `abort`, `turn` or `stop`."""
        self._inbox.append((kind, what))
        self._wake.set()

    def run(self) -> None:
        """Step until told to stop, or until something fatal."""
        while True:
            if not (self._running or self._waiting or self._inbox):
                self._wake.wait()
            self._wake.clear()
            if not self._take() or not self._step():
                return

    def _take(self) -> bool:
        while self._inbox:
            kind, what = self._inbox.popleft()
            if kind == "stop":
                return False
            if kind == "turn":
                self._fault = what
            elif kind == "submit":
                self._waiting.append(Running(*what))
            else:
                for one in (*self._waiting, *self._running):
                    one.aborted = one.aborted or one.number == what
        return True

    def _step(self) -> bool:
        self._admit()
        if not self._running and not self._waiting:
            return True
        time.sleep(self._pace)
        if self._fault == "hang":
            return False
        if self._fault == "fatal":
            for one in (*self._running, *self._waiting):
                self._send("response", one.number, {"fatal": "an illegal memory access"})
            return False
        failing, self._fault = self._fault == "fail", ""
        self._iteration += 1
        for one in list(self._running):
            self._advance(one, failing)
        self._send("stats", 0, json.dumps(self._stats()))
        return True

    def _admit(self) -> None:
        for one in [one for one in self._waiting if one.aborted]:
            self._waiting.remove(one)
            self._respond(one, [], "cancelled")
        while self._waiting and len(self._running) < self._slots:
            if not self._cache.admit(self._waiting[0]):
                return
            one = self._waiting.popleft()
            self._running.append(one)
            try:
                one.speech = Speech(self.language, one.prompt, one.params)
            except ValueError as error:
                self._end(one)
                self._send("response", one.number, {"error": str(error)})

    def _advance(self, one: Running, failing: bool) -> None:
        if failing:
            self._end(one)
            self._send("response", one.number, {"error": "the step failed\nand more of it"})
            return
        if one.aborted:
            self._end(one)
            self._respond(one, [], "cancelled")
            return
        assert one.speech is not None
        token = one.speech.next()
        one.said.append(token)
        if token == one.params["end_id"] or token in one.params["stop"]:
            self._end(one)
            self._respond(one, [token], "stop", token if token in one.params["stop"] else None)
        elif len(one.said) >= one.params["max_tokens"]:
            self._end(one)
            self._respond(one, [token], "length")
        else:
            self._respond(one, [token], None)

    def _end(self, one: Running) -> None:
        self._running.remove(one)
        self._cache.release(one)

    def _respond(
        self, one: Running, tokens: list[int], reason: str | None, stop_word: int | None = None
    ) -> None:
        wanted = one.params["logprobs"]
        scores = [
            [(token, -0.5, 1), *(((token + n) % 250, -1.0 - n, n + 1) for n in range(1, wanted))]
            for token in tokens
            if wanted
        ]
        body = {"tokens": tokens, "logprobs": scores, "final": reason is not None,
                "reason": reason, "stop_word": stop_word, "cached": one.cached,
                "iteration": len(one.said)}  # fmt: skip
        self._send("response", one.number, body)

    def _event(self, data: dict[str, Any]) -> None:
        if self._events_kept:
            body = {"event_id": self._event_id, "data": data, "window_size": 1 << 20}
            self._event_id += 1
            self._send("event", 0, json.dumps(body))

    def _stats(self) -> dict[str, Any]:
        used, total = self._cache.used, self._cache.total
        return {
            "iter": self._iteration,
            "numActiveRequests": len(self._running),
            "maxNumActiveRequests": self._slots,
            "numQueuedRequests": len(self._waiting),
            "kvCacheStats": {
                "usedNumBlocks": used, "maxNumBlocks": total, "freeNumBlocks": total - used,
            },
            "inflightBatchingStats": {"numPausedRequests": 0},
        }  # fmt: skip


def main() -> None:
    """A rank that is spoken to in pickles over its standard streams."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    order = pickle.load(source)  # noqa: S301 - from our own parent

    def send(kind: str, number: int, body: Any) -> None:
        pickle.dump((kind, number, body), sink)
        sink.flush()

    rank = Rank(order, send)
    send("ready", 0, None)

    def listen() -> None:
        while True:
            try:
                rank.tell(*pickle.load(source))  # noqa: S301
            except EOFError:  # the parent is gone
                rank.tell("stop", None)
                return

    threading.Thread(target=listen, daemon=True).start()
    rank.run()
    sink.flush()
    os._exit(0)  # the listener holds the input
