"""What a simulated client can do, by name. Pure: `drive` knows how each is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Way = Literal["nats", "http"]


@dataclass(frozen=True, slots=True)
class Operation:
    """`about` says what one of it is, from the first byte sent to the moment it counts as done."""

    way: Way
    about: str


OPERATIONS = {
    "nats_task": Operation("nats", "publish a task, follow its facts and deltas to `done`"),
    "chat": Operation("http", "a stateless chat completion"),
    "chat_stream": Operation("http", "the same as a stream, to `[DONE]`"),
    "agent_stream": Operation("http", "a chat completion of an agent as a stream, to `[DONE]`"),
    "task_wait": Operation("http", "a task with `Prefer: wait`"),
    "task_events": Operation("http", "a task, then its event stream to `done`"),
    "response": Operation("http", "a response of an agent"),
    "response_background": Operation("http", "one in the background, then its stream to the end"),
    "messages": Operation("http", "a message in Anthropic's form"),
    "embeddings": Operation("http", "one embedding"),
    "upsert": Operation("http", "store a document"),
    "search": Operation("http", "find the client's own document among all of its tenant"),
}
