"""The judge: is a turn the right one?

Owns parsing of tool calls, comparison of calls and answers, and the walk through a task (feed the
prompt, compare, feed the tools' results, compare again). Needs no torch: whatever completes a
prompt can be judged.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .arithmetic import calculate
from .conversation import TOOLS, render, schema
from .vocabulary import listed

Complete = Callable[[str], str]
Again = Callable[[str, str], str]
"""Ranks the passages of a written result for a query; others it leaves as they are."""
BLOCK = re.compile(r"<tool_call>\n(.*?)\n</tool_call>", re.DOTALL)
SMALL_WORDS = set(listed("the a an of for in on our my to and about is are do does we i"))
SYSTEM = "You are a helpful agent."


@dataclass(frozen=True)
class Call:
    """A parsed tool call."""

    name: str
    arguments: dict[str, Any]


@dataclass
class Verdict:
    """What came out of one task."""

    kind: str
    calls_right: bool
    answer_right: bool
    notes: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """Everything was as it should be."""
        return self.calls_right and self.answer_right


def parse(turn: str) -> tuple[list[Call], str]:
    """The calls of a turn and the text around them; a broken call becomes one without a name."""
    found = []
    for body in BLOCK.findall(turn):
        try:
            value = json.loads(body)
            found.append(Call(str(value["name"]), dict(value["arguments"])))
        except (ValueError, KeyError, TypeError):
            found.append(Call("", {"body": body}))
    return found, BLOCK.sub("", turn).strip()


def squeezed(text: str) -> str:
    """Text with single spaces."""
    return " ".join(text.split())


def same(got: Call, want: Call) -> bool:
    """Equal names and, apart from spaces in expressions, equal arguments."""
    if got.name != want.name or set(got.arguments) != set(want.arguments):
        return False
    for name, value in want.arguments.items():
        mine = str(got.arguments[name])
        if name == "expression":
            mine, value = mine.replace(" ", ""), value.replace(" ", "")
        if squeezed(mine) != squeezed(value):
            return False
    return True


def words(text: str) -> set[str]:
    """Lower-case words without the small ones, singular and plural alike."""
    found = re.findall(r"[a-z0-9]+", text.lower())
    return {w.removesuffix("s") for w in found if w not in SMALL_WORDS}


def numbers(expression: str) -> Counter[float]:
    """The numbers in an expression."""
    return Counter(float(n) for n in re.findall(r"\d+(?:\.\d+)?", expression))


def fits(got: Call, want: dict[str, Any], user: str) -> bool:
    """Whether a call does what a hand-written task expects."""
    if got.name != want["tool"] or set(got.arguments) != set(TOOLS[got.name][1]):
        return False
    mine = {name: str(value) for name, value in got.arguments.items()}
    if got.name == "calculator":
        same_value = calculate(mine["expression"]) == calculate(want["expression"])
        return same_value and numbers(mine["expression"]) == numbers(want["expression"])
    if got.name == "current_time":
        return mine["timezone"] == want["timezone"]
    if got.name == "remember" and mine["value"] != want["value"]:
        return False
    name = "query" if got.name == "search_knowledge" else "key"
    asked = words(mine[name])
    return words(" ".join(want[name])) <= asked <= words(user)


def transcript(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
    """The prompt for the next assistant turn."""
    return "".join(text for text, _ in render(messages, tools)) + "<|im_start|>assistant\n"


def judge_generated(talk: dict[str, Any], complete: Complete) -> Verdict:
    """Judge the last task of a generated session; earlier tasks are its history."""
    messages, tools = talk["messages"], talk["tools"]
    verdict = Verdict(talk["kinds"][-1], True, True)
    for index in range(talk["starts"][-1], len(messages)):
        message = messages[index]
        if message["role"] != "assistant":
            continue
        turn = complete(transcript(messages[:index], tools))
        got, text = parse(turn)
        want = [
            Call(c["function"]["name"], json.loads(c["function"]["arguments"]))
            for c in message.get("tool_calls") or []
        ]
        right = len(got) == len(want) and all(same(a, b) for a, b in zip(got, want, strict=True))
        if not right:
            verdict.calls_right = False
        if right and not want and squeezed(text) != squeezed(message["content"]):
            verdict.answer_right = False
        if not verdict.right:
            asked = transcript(messages[talk["starts"][-1] : index], [])
            verdict.notes = [asked, str(want or message["content"]), turn]
            break
    return verdict


def history(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages before a hand-written task."""
    out: list[dict[str, Any]] = [{"role": "system", "content": SYSTEM}]
    for user, tool, arguments, result, answer in task.get("history", []):
        function = {"name": tool, "arguments": json.dumps(arguments)}
        out += [
            {"role": "user", "content": user},
            {"role": "assistant", "content": None, "tool_calls": [{"function": function}]},
            {"role": "tool", "content": result},
            {"role": "assistant", "content": answer},
        ]
    return out


def result_of(call: Call, want: dict[str, Any], again: Again) -> str:
    """What the tool returns: of a search, the written passages as the tool ranks them."""
    if call.name != "search_knowledge":
        return str(want["result"])
    return again(str(call.arguments["query"]), want["result"])


def judge_written(task: dict[str, Any], complete: Complete, again: Again) -> Verdict:
    """Judge one hand-written task."""
    offered = task.get("tools", list(TOOLS))
    tools = [schema(name, TOOLS[name][0], list(TOOLS[name][1])) for name in offered]
    messages = [*history(task), {"role": "user", "content": task["user"]}]
    verdict = Verdict(task["intent"], True, True)
    for step in task["steps"]:
        turn = complete(transcript(messages, tools))
        got, _ = parse(turn)
        if len(got) != len(step) or not all(
            fits(call, want, task["user"]) for call, want in zip(got, step, strict=True)
        ):
            verdict.calls_right = verdict.answer_right = False
            verdict.notes = [task["user"], str(step), turn]
            return verdict
        asked = [
            {"function": {"name": c.name, "arguments": json.dumps(c.arguments, ensure_ascii=False)}}
            for c in got
        ]
        messages.append({"role": "assistant", "content": None, "tool_calls": asked})
        messages += [
            {"role": "tool", "content": result_of(call, want, again)}
            for call, want in zip(got, step, strict=True)
        ]
    turn = complete(transcript(messages, tools))
    got, text = parse(turn)
    facts = [squeezed(fact).lower() for fact in task["facts"]]
    verdict.calls_right = not got
    verdict.answer_right = all(fact in squeezed(text).lower() for fact in facts)
    if not verdict.right:
        verdict.notes = [task["user"], str(task["facts"]), turn]
    return verdict
