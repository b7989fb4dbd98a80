"""Owns how a note is named: people say "my badge number" and "the badge number". Pure."""

from __future__ import annotations

import re

from shared.errors import Permanent

NOTHING, SAVED = "nothing stored", "saved"
MAX_NOTE = 4_000
_LEADING = re.compile(r"^(?:(?:the|a|an|my|your|our|his|her|its|their|this|that)\s+)+(?=\S)")


def note_key(key: str) -> str:
    """The name under which a note is kept: case, articles and possessives do not matter.

    Raises:
        Permanent: `invalid_key` for an empty or overlong one.
    """
    plain = " ".join(key.casefold().replace("\u2019", "'").split()).strip(" .,:;!?\"'")
    plain = _LEADING.sub("", plain)
    if not 0 < len(plain) <= 200:
        raise Permanent("invalid_key", "a key has 1 to 200 characters", field="key")
    return plain


def note_value(value: str) -> str:
    """What is kept.

    Raises:
        Permanent: `value_too_long`.
    """
    if len(value) > MAX_NOTE:
        raise Permanent("value_too_long", f"at most {MAX_NOTE} characters", field="value")
    return value
