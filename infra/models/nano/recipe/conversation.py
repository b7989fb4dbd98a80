"""Whole sessions: system block, tools, a few tasks in a row, and their text.

Owns the share of each kind of task and the exact text format that the model is trained on. The
chat template must produce the same text (checked by `check_template.py`).
"""

from __future__ import annotations

import json
from typing import Any

from . import chains, intents, paired
from .chains import Message
from .vocabulary import Voice, capital, dressed, lines, listed, noisy

TOOLS: dict[str, tuple[str, dict[str, str]]] = {
    "calculator": ("Evaluate an arithmetic expression.", {"expression": "string"}),
    "search_knowledge": ("Search the documents.", {"query": "string"}),
    "current_time": ("Current date and time in a timezone.", {"timezone": "string"}),
    "remember": ("Store a fact under a key.", {"key": "string", "value": "string"}),
    "recall": ("Get a stored fact.", {"key": "string"}),
}
STRANGERS: dict[str, list[str]] = {
    "send_email": ["to", "subject", "body"], "get_weather": ["city"], "run_query": ["sql"],
    "create_ticket": ["title", "priority"], "open_page": ["url"], "book_room": ["room", "start"],
    "read_file": ["path"], "list_orders": ["customer"],
}  # fmt: skip
WEIGHTS = {
    "calculator": 20, "search_knowledge": 30, "two_step": 18, "parallel": 13, "current_time": 6,
    "remember": 6, "recall": 5, "recall_compute": 3, "two_lookups": 2, "talk": 6,
}  # fmt: skip
FOCUS = WEIGHTS | {
    "search_knowledge": 30, "two_step": 18, "parallel": 28, "calculator": 24, "current_time": 8,
    "remember": 10, "recall": 9, "recall_compute": 5, "two_lookups": 7, "talk": 4,
}  # fmt: skip
"""For the later part of a training run: what comes last comes more often."""
STEPS = FOCUS | {"two_step": 180, "two_lookups": 45}
"""For its end: one number is picked among several."""
NEEDS = {
    "two_step": {"search_knowledge", "calculator"},
    "two_lookups": {"search_knowledge", "calculator"},
    "recall_compute": {"recall", "calculator"},
}
ASKING = set(listed("what who how are do is can will does should could would which where"))


def schema(name: str, description: str, names: list[str]) -> dict[str, Any]:
    """A tool as OpenAI shapes it."""
    properties = {argument: {"type": "string"} for argument in names}
    parameters = {"type": "object", "properties": properties, "required": names}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def offered(voice: Voice) -> list[str]:
    """Which of the five tools a session offers."""
    names = list(TOOLS)
    roll = voice.rng.random()
    if roll < 0.06:
        return []
    if roll < 0.2:
        names = voice.rng.sample(names, voice.rng.randint(1, 4))
    if voice.chance(0.5):
        voice.rng.shuffle(names)
    return names


def tool_block(voice: Voice, names: list[str]) -> list[dict[str, Any]]:
    """The tools of a session, sometimes with strangers among them."""
    out = [schema(n, TOOLS[n][0], list(TOOLS[n][1])) for n in names]
    if names and voice.chance(0.12):
        for other in voice.rng.sample(list(STRANGERS), voice.rng.randint(1, 2)):
            out.insert(voice.rng.randint(0, len(out)), schema(other, "Other.", STRANGERS[other]))
    return out


def talk(voice: Voice) -> list[Message]:
    """Small talk."""
    groups: list[tuple[str, list[str]]] = []
    for line in lines("talk.txt"):
        if line[0] == "=":
            groups.append((line[2:], []))
        else:
            groups[-1][1].append(line[2:])
    answer, asked = voice.rng.choices(groups, [2 + len(group[1]) for group in groups])[0]
    text = capital(voice.expand(voice.rng.choice(asked)))
    text += "?" if text.split(" ")[0].lower() in ASKING else voice.rng.choice([".", "!", ""])
    return [{"role": "user", "content": noisy(voice, text)}, chains.said(answer)]


def several(
    voice: Voice, names: list[str], memory: dict[str, str], absent: set[str]
) -> list[Message]:
    """Two or three requests in one turn."""
    turns = paired.draw(voice, names, memory) if voice.chance(0.3) else None
    if turns:
        return turns
    weights = {"calculator": 4, "search_knowledge": 4, "current_time": 3, "remember": 1,
               "recall": 2}  # fmt: skip
    options = [n for n in names if voice.chance(0.97)] or list(TOOLS)
    count = 3 if voice.chance(0.12) else 2
    tools = voice.rng.choices(options, [weights[n] for n in options], k=count)
    parts = [intents.draw(voice, tool, memory, joinable=True) for tool in tools]
    return chains.in_parallel(voice, parts, absent)


def draw_task(
    voice: Voice, names: list[str], memory: dict[str, str], weights: dict[str, int]
) -> tuple[str, list[Message]]:
    """One task of a random kind; kinds whose tools are absent end in a refusal."""
    absent = set(TOOLS) - set(names)
    kind = voice.rng.choices(list(weights), list(weights.values()))[0]
    if NEEDS.get(kind, set()) & absent:
        kind = "talk" if not names else voice.rng.choice(names)
    if kind in TOOLS and kind in absent and names and voice.chance(0.5):
        kind = voice.rng.choice(names)
    if kind == "talk":
        return kind, talk(voice)
    if kind == "two_step":
        return kind, chains.lookup_then_compute(voice)
    if kind == "recall_compute":
        return kind, chains.recall_then_compute(voice, memory)
    if kind == "two_lookups":
        return kind, chains.two_lookups_then_sum(voice)
    if kind == "parallel":
        return kind, several(voice, names, memory, absent)
    return kind, chains.single(voice, intents.draw(voice, kind, memory), absent)


def session(
    voice: Voice, count: int | None = None, weights: dict[str, int] = WEIGHTS
) -> dict[str, Any]:
    """A conversation with its tools; `kinds` and `starts` say where each task is."""
    names = offered(voice)
    tools = tool_block(voice, names)
    count = count or voice.rng.choice([1, 1, 2, 2, 2, 3, 3, 3, 4, 5])
    messages: list[Message] = [{"role": "system", "content": voice.of(lines("systems.txt"))}]
    kinds, starts, memory = [], [], {}
    for _ in range(count):
        kind, turns = draw_task(voice, names, memory, weights)
        kinds.append(kind)
        starts.append(len(messages))
        messages += turns
    return {"tools": tools, "messages": messages, "kinds": kinds, "starts": starts}


def system_text(content: str, tools: list[dict[str, Any]]) -> str:
    """The system block's content."""
    if not tools:
        return content
    rows = [
        json.dumps({"name": t["function"]["name"],
                    "arguments": list(t["function"]["parameters"]["properties"])})
        for t in tools
    ]  # fmt: skip
    return "\n".join([content, "# Tools", "<tools>", *rows, "</tools>"])


def spoken(message: Message) -> str:
    """What an assistant message consists of."""
    blocks = [
        "<tool_call>\n"
        f'{{"name": "{c["function"]["name"]}", "arguments": {c["function"]["arguments"]}}}\n'
        "</tool_call>"
        for c in message.get("tool_calls") or []
    ]
    text = message.get("content") or ""
    return "\n".join(([text] if text else []) + blocks)


def render(messages: list[Message], tools: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    """The text in segments; True marks what the model has to produce."""
    out: list[tuple[str, bool]] = []
    for index, message in enumerate(messages):
        role, content = message["role"], message.get("content") or ""
        if role == "assistant":
            out += [("<|im_start|>assistant\n", False), (spoken(message) + "<|im_end|>", True),
                    ("\n", False)]  # fmt: skip
        elif role == "tool":
            first = index == 0 or messages[index - 1]["role"] != "tool"
            last = index + 1 == len(messages) or messages[index + 1]["role"] != "tool"
            head = "<|im_start|>user\n" if first else "\n"
            body = f"<tool_response>\n{content}\n</tool_response>"
            out.append((head + body + ("<|im_end|>\n" if last else ""), False))
        else:
            body = system_text(content, tools) if role == "system" else content
            out.append((f"<|im_start|>{role}\n{body}<|im_end|>\n", False))
    return out


__all__ = ["TOOLS", "dressed", "render", "schema", "session"]
