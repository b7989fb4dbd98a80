"""Owns the fetching of models from a hub (Hugging Face's, or what speaks like it) on first use.

Must not know engines. Nothing that is fetched can run code: configuration, tokenizer, template and
weights as safetensors or OpenVINO IR, never pickles. What is here already is used without asking.
"""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import errors, snapshot_download
from huggingface_hub.utils.tqdm import disable_progress_bars

from shared.errors import MillraceError, Permanent, Transient

_HTTP_ERROR: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]  # of its own client
_WANTED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "*.safetensors",
    "openvino_model.*",
)
# Other copies of the same weights: in a folder of their own, or in Mistral's own form.
_OTHER_COPIES = ("*/*", "consolidated*")
_ELSEWHERE = "or copy its folder to this machine and give that path"


def fetched(name: str, revision: str | None, cache: Path) -> Path:
    """The folder with a hub's model below `cache`: what is there already, else what it sends now.

    That may take minutes: call it off the event loop. `HF_ENDPOINT`, `HF_TOKEN` and
    `HF_HUB_OFFLINE` mean what they mean to every client of a hub.

    Raises:
        Permanent: `model_missing`, `model_forbidden`; the field is `path`.
        Transient: `hub_unreachable`, `model_not_stored`.
    """
    try:
        return _snapshot(name, revision, cache, here=True)
    except errors.LocalEntryNotFoundError:
        return _asked(name, revision, cache)


def _asked(name: str, revision: str | None, cache: Path) -> Path:
    try:
        return _snapshot(name, revision, cache, here=False)
    except (OSError, _HTTP_ERROR) as error:
        raise _told(name, revision, error) from error


def _snapshot(name: str, revision: str | None, cache: Path, *, here: bool) -> Path:
    disable_progress_bars()
    found = snapshot_download(
        name,
        revision=revision,
        cache_dir=cache / "hub",
        allow_patterns=list(_WANTED),
        ignore_patterns=list(_OTHER_COPIES),
        local_files_only=here,
    )
    return Path(found)


def _told(name: str, revision: str | None, error: Exception) -> MillraceError:
    """What the person has to do who wrote the name."""
    match error:
        case errors.GatedRepoError():
            detail = f"{name} is given to those who accept its terms: do so, and set HF_TOKEN"
            return Permanent("model_forbidden", detail, field="path")
        case errors.RepositoryNotFoundError():
            detail = (
                f"{name} is neither a folder here nor a public model of the hub: correct the path, "
                "or set HF_TOKEN if the model is private"
            )
            return Permanent("model_missing", detail, field="path")
        case errors.RevisionNotFoundError():
            detail = f"{name} has no revision {revision!r}"
            return Permanent("model_missing", detail, field="path")
        case errors.LocalEntryNotFoundError() | _HTTP_ERROR() | ConnectionError():
            detail = (
                f"{name} is not here yet and the hub cannot be reached ({type(error).__name__}): "
                f"connect, set HF_ENDPOINT to a mirror, {_ELSEWHERE}"
            )
            return Transient("hub_unreachable", detail)
        case _:
            detail = f"{name} cannot be stored: {error}; make room, {_ELSEWHERE}"
            return Transient("model_not_stored", detail)
