"""What the real library's headers say (`tests/contract/trtllm_signatures.json`), as Python.

Everything that the look-alike offers is made from here: a name that is not in the file is refused
with the error that the real one gives.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "contract" / "trtllm_signatures.json"
SPEC: dict[str, Any] = json.loads(FILE.read_bytes())
CLASSES: dict[str, Any] = SPEC["classes"]
CONSTRUCTOR: dict[str, Any] = SPEC["llm_constructor"]["fields"]
EXPLICIT: list[str] = SPEC["llm_constructor"]["explicit_parameters"]
_EMPTY = inspect.Parameter.empty


def default_of(entry: dict[str, Any]) -> Any:
    """The default as a value; what only the library could build (an enum, a config) is None."""
    text = entry.get("default")
    if text is None:
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        named = {"None": None, "True": True, "False": False}
        return text[1:-1] if text.startswith("'") else named.get(text)


def signature_of(entries: list[dict[str, Any]]) -> inspect.Signature:
    """A method's signature, `self` included."""
    kinds = {name: getattr(inspect.Parameter, name) for name in ("POSITIONAL_OR_KEYWORD",
             "KEYWORD_ONLY", "VAR_KEYWORD")}  # fmt: skip
    return inspect.Signature(
        [
            inspect.Parameter(
                entry["name"],
                kinds[entry["kind"]],
                default=_EMPTY
                if entry["required"] or entry["kind"] == "VAR_KEYWORD"
                else default_of(entry),
            )
            for entry in entries
        ]
    )


def dataclass_of(name: str, *, kw_only: bool = False, base: type = object) -> type:
    """A dataclass with slots and the fields of the file, and no other."""
    made: list[tuple[str, Any, Any]] = []
    for entry in CLASSES[name]["fields"]:
        options: dict[str, Any] = {"init": entry.get("init", True)}
        if entry.get("default") == "<factory list>":
            options["default_factory"] = list
        elif not entry["required"]:
            options["default"] = default_of(entry)
        made.append((entry["name"], Any, dataclasses.field(**options)))
    return dataclasses.make_dataclass(
        name, made, bases=(base,), slots=True, kw_only=kw_only, module=__name__
    )
