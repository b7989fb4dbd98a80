"""Owns the Hugging Face model folder: where it is, its configuration files and chat template.

Must not know engines or weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson

from services.inference.core.chat import ChatTemplate, TemplateFailed
from services.inference.core.dialect import Dialect, dialect_of
from shared.errors import Permanent
from shared.models import AUTO, hub_name


def find_folder(path: str, cache: Path) -> Path:
    """The folder that a row of the models file means, with a whole model in it.

    Where there is none, the path is a name on a hub; see `hub.fetched`.

    Raises:
        Permanent: `model_missing`, `model_incomplete`, with the field `path`; as `hub.fetched`.
        Transient: as `hub.fetched`.
    """
    folder = Path(path)
    if not folder.is_dir():
        named = hub_name(path)
        if named is None:
            detail = f"there is no folder {path}, and a hub's models are called owner/name"
            raise Permanent("model_missing", detail, field="path")
        from services.inference.adapters.hub import fetched  # a heavy one, seldom needed

        folder = fetched(*named, cache)
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if not any(folder.glob("*.safetensors")) and not (folder / "openvino_model.xml").is_file():
        missing.append("*.safetensors")
    if missing:
        detail = f"the model in {folder} lacks {', '.join(missing)}: is it in Hugging Face's form?"
        raise Permanent("model_incomplete", detail, field="path")
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """config.json, which every model has."""
    config: dict[str, Any] = orjson.loads((folder / "config.json").read_bytes())
    return config


def read_eos_ids(folder: Path) -> frozenset[int]:
    """generation_config.json knows better than config.json; either may hold one id or a list."""
    for name in ("generation_config.json", "config.json"):
        found = _optional(folder / name).get("eos_token_id")
        if found is not None:
            return frozenset(found if isinstance(found, list) else [found])
    return frozenset()


def read_added_tokens(folder: Path) -> dict[int, tuple[str, bool]]:
    """Added tokens of tokenizer.json: id to text and whether it is a control token."""
    added = orjson.loads((folder / "tokenizer.json").read_bytes()).get("added_tokens", [])
    return {entry["id"]: (entry["content"], bool(entry.get("special"))) for entry in added}


def read_chat_template(
    folder: Path, control: Iterable[str], strftime: Callable[[str], str] | None = None
) -> ChatTemplate:
    """The folder's template, with the variables that it may use.

    Raises:
        TemplateFailed: there is none, or it cannot be read.
    """
    config = _optional(folder / "tokenizer_config.json")
    source = _template(folder, config)
    if source is None:
        raise TemplateFailed(f"the folder {folder.name} has no chat template")
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    variables = {name: _token_text(config.get(name)) for name in names}
    return ChatTemplate(source, control, variables, strftime)


def read_dialect(folder: Path, parser: str = AUTO, reasoning: str = AUTO) -> Dialect:
    """How the folder's model writes calls and reasoning; see `dialect_of`."""
    source = _template(folder, _optional(folder / "tokenizer_config.json")) or ""
    added = (text for text, _ in read_added_tokens(folder).values())
    return dialect_of(source, added, parser, reasoning)


def _template(folder: Path, config: dict[str, Any]) -> str | None:
    """chat_template.jinja, or the one inside tokenizer_config.json as older folders have it."""
    file = folder / "chat_template.jinja"
    source = file.read_text("utf-8") if file.exists() else config.get("chat_template")
    if isinstance(source, list):
        named = {entry["name"]: entry["template"] for entry in source}
        source = named.get("default")
    return source if isinstance(source, str) else None


def _optional(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(file.read_bytes()) if file.exists() else {}
    return found


def _token_text(entry: object) -> str:
    if isinstance(entry, dict):
        entry = entry.get("content")
    return entry if isinstance(entry, str) else ""
