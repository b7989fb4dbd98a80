"""The wire form of every message, byte for byte, as files that are never edited.

A message that is new needs a file: the failing test prints the body to put there.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import orjson
import pytest

from shared.contracts.base import decode, encode
from tests.contract.examples import EXAMPLES, golden_name, messages

GOLDEN = Path(__file__).parent / "golden"
KINDS = sorted(messages(), key=golden_name)
BEFORE = sorted((Path(__file__).parent / "golden_before").glob("*/*.json"))
by_name = pytest.mark.parametrize("kind", KINDS, ids=golden_name)


def body_of(kind: type) -> bytes:
    path = GOLDEN / golden_name(kind)
    assert path.exists(), f"{path.name} is missing; it must hold\n{encode(EXAMPLES[kind]).decode()}"
    return path.read_bytes().rstrip(b"\n")


@by_name
def test_the_message_is_written_as_ever(kind: type) -> None:
    assert encode(EXAMPLES[kind]).decode() == body_of(kind).decode()


@by_name
def test_the_message_is_read_as_ever(kind: type) -> None:
    assert decode(body_of(kind), kind) == EXAMPLES[kind]


@by_name
def test_a_field_of_a_later_release_does_no_harm(kind: type) -> None:
    body = orjson.dumps(orjson.loads(body_of(kind)) | {"field_of_a_later_release": [1, {}]})
    assert decode(body, kind) == EXAMPLES[kind]


@by_name
def test_the_example_fills_every_field(kind: type[msgspec.Struct]) -> None:
    assert set(orjson.loads(body_of(kind))) == set(kind.__struct_fields__)


@pytest.mark.parametrize("path", BEFORE, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_an_older_release_wrote_is_read(path: Path) -> None:
    """Every field that it wrote is still there, with the same value."""
    kind = next(kind for kind in KINDS if golden_name(kind) == path.name)
    old = orjson.loads(path.read_bytes())
    assert holds(orjson.loads(encode(decode(path.read_bytes(), kind))), old)


def holds(new: object, old: object) -> bool:
    if isinstance(old, dict) and isinstance(new, dict):
        return all(name in new and holds(new[name], value) for name, value in old.items())
    return new == old


def test_no_file_is_without_a_message() -> None:
    """A message that is no more stays readable: its file stays, and its type with it."""
    assert {path.name for path in GOLDEN.iterdir()} == {golden_name(kind) for kind in KINDS}


def test_names_are_used_once() -> None:
    assert len({kind.__name__ for kind in KINDS}) == len(KINDS)
    assert set(EXAMPLES) == set(KINDS)
