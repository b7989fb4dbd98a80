"""Check that the chat template renders exactly the text that the model was trained on.

Owns that one guarantee. Usage: python check_template.py [COUNT]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment
from recipe.conversation import render, session
from recipe.vocabulary import Voice

TEMPLATE = Path(__file__).parent / "recipe" / "data" / "chat_template.jinja"


def plain_json(value: object, **_: object) -> str:
    """`tojson` without HTML escapes, as model servers define it."""
    return json.dumps(value, ensure_ascii=False)


def parsed(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with call arguments as objects instead of text."""
    out = []
    for message in messages:
        copy = dict(message)
        if message.get("tool_calls"):
            copy["tool_calls"] = [
                {"function": {"name": c["function"]["name"],
                              "arguments": json.loads(c["function"]["arguments"])}}
                for c in message["tool_calls"]
            ]  # fmt: skip
        out.append(copy)
    return out


def main() -> None:
    """Compare template and generator on generated sessions."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = plain_json
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    voice = Voice(5, held=True)
    for index in range(count):
        talk = session(voice)
        segments = render(talk["messages"], talk["tools"])
        for messages in (talk["messages"], parsed(talk["messages"])):
            got = template.render(messages=messages, tools=talk["tools"])
            want = "".join(text for text, _ in segments)
            if got != want:
                raise SystemExit(f"session {index} differs:\n{want}\n---\n{got}")
        start = template.render(
            messages=talk["messages"][:2], tools=talk["tools"], add_generation_prompt=True
        )
        if not want.startswith(start):
            raise SystemExit(f"session {index}: the generation prompt differs")
    sys.stdout.write(f"{count} sessions: template and generator agree\n")


if __name__ == "__main__":
    main()
