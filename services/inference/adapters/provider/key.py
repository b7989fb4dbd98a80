"""Owns where an endpoint's key comes from: an environment variable, or a file that holds it.

The key is read when it is needed and shown to nobody: no print of anything in here has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shared.errors import Permanent
from shared.models import ProviderModel

Variables = Callable[[str], str | None]
"""The value of an environment variable, None where it is not set."""
NONE = "none"
"""What an endpoint without a key is sent: the SDKs insist on something."""


@dataclass(frozen=True, slots=True)
class Key:
    """A place where a key is. `read` again to meet one that was changed."""

    where: str
    """In words, for whoever has to mend it."""
    _read: Callable[[], str]

    def read(self) -> str:
        """The key.

        Raises:
            Permanent: `missing_key`, saying where it was looked for.
        """
        return self._read()

    def __repr__(self) -> str:
        return f"Key({self.where!r})"

    def hidden(self, text: str) -> str:
        """The text without the key: an endpoint may repeat it in what it says."""
        try:
            key = self.read()
        except Permanent:
            return text
        return text if key == NONE else text.replace(key, "***")


def key_of(row: ProviderModel, variables: Variables) -> Key:
    """The key that a row names.

    Raises:
        Permanent: `missing_key`.
    """
    if row.key_file is not None:
        path = Path(row.key_file)
        key = Key(f"the file {path}", lambda: _in_file(path))
    elif (name := row.key_variable) is not None:
        key = Key(f"the variable {name}", lambda: _in_variable(name, variables))
    else:
        key = Key("no key (the row names none)", lambda: NONE)
    key.read()
    return key


def _in_file(path: Path) -> str:
    try:
        found = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        detail = f"cannot read the key file {path}: {type(error).__name__}"
        raise _missing(detail, "key_file") from None
    if not _fits(found):
        raise _missing(f"the key file {path} holds no key: it has one line with it", "key_file")
    return found


def _in_variable(name: str, variables: Variables) -> str:
    found = (variables(name) or "").strip()
    if not _fits(found):
        raise _missing(f"set the environment variable {name} to the endpoint's key", "key")
    return found


def _fits(key: str) -> bool:
    """Whether it can stand in a header: an unfit one would be repeated in an error."""
    return key.isascii() and key.isprintable() and bool(key) and " " not in key


def _missing(detail: str, field: str) -> Permanent:
    return Permanent("missing_key", detail, field=field)
