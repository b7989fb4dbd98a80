"""What the clients ask and what must stand in the answers: a file, for it depends on the model."""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml

from shared.errors import Permanent

DEFAULT = Path(__file__).parent / "questions.yaml"


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each text of `expect` must stand in the answer, in any case; none: it must not be empty."""

    ask: str
    expect: tuple[str, ...] = ()


class Questions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For a model alone (`chat`) and for an agent."""

    chat: tuple[Question, ...]
    agent: tuple[Question, ...]
    route: str = "default"
    agent_name: str = "assistant"
    embedding_model: str = "all-MiniLM-L6-v2"


def read_questions(path: Path) -> Questions:
    """The questions of a file.

    Raises:
        Permanent: `invalid_questions`.
    """
    try:
        found = msgspec.convert(yaml.safe_load(path.read_text()), Questions)
    except (OSError, ValueError, yaml.YAMLError) as error:
        text = f"{path} is no file of questions: {error}"
        raise Permanent("invalid_questions", text, field="questions") from error
    for name in ("chat", "agent"):
        if not getattr(found, name):
            raise Permanent("invalid_questions", f"{path} has none for {name}", field="questions")
    return found
