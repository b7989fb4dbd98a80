"""How much work a JSON schema is, found out before anybody does that work.

A schema is a graph that a client draws. A reader that follows it by calling itself runs out of
stack on a long chain of references (the process is gone, with everybody's answers), and one that
tries every branch needs 2^n of them for n lines that each name the next one twice. So a schema is
measured here, once per node. Must not know validators, engines or requests.

What counts: the levels of nesting, if every reference were followed once; the schemas that one
place of a value is held against; and, where there is a value, all of these together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import unquote

import orjson

MAX_BYTES: Final = 256 << 10
"""Of one schema, as JSON."""
MAX_PARTS: Final = 10_000
"""Objects and arrays of one schema."""
MAX_LEVELS: Final = 1000
"""Measured: llguidance 1.9 ends the process at 2,400 and more, on a thread's usual stack."""
MAX_WORK: Final = 100_000
"""Schemas that a value is held against; letters count, where a pattern reads them."""
MAX_PATTERNS: Final = 8
"""That one text has to match all: to find out whether one can takes 2^n (20: 15 s, measured)."""
MAX_PAIRS: Final = 4096
"""Pairs of names' patterns in all objects, each looked at for a name that both match."""
_MAX_CALLS = 300
"""How deep the measuring itself may go."""
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_SAME = ("not", "if", "then", "else")
_SAME_LISTS = ("allOf", "anyOf", "oneOf")
_SAME_MAPS = ("dependentSchemas", "dependencies")
_EVERY_MEMBER = ("additionalProperties", "unevaluatedProperties")
_EVERY_ITEM = ("items", "additionalItems", "unevaluatedItems", "contains")
_AGAIN = ("unevaluatedProperties", "unevaluatedItems")
"""What looks a second time at everything that its neighbours have looked at."""

Node = Mapping[str, object]


class TooMuch(ValueError):
    """A schema that nobody is asked to read; the text says what is wrong with it."""


def check(schema: Node) -> int:
    """How many bytes a schema has that can be read in bounded time and stack, whatever is held
    against it.

    Raises:
        TooMuch: it cannot.
    """
    size = _bytes(schema)
    if size > MAX_BYTES:
        raise TooMuch(f"it has {size} bytes, more than {MAX_BYTES}")
    graph = _Graph(schema)
    levels = graph.levels()
    if levels > MAX_LEVELS:
        raise TooMuch(f"its references lead {levels} levels deep, deeper than {MAX_LEVELS}")
    work = _Work(graph)
    for node in graph.nodes:
        work.of(node, None)
    _check_patterns(graph)
    return size


def _bytes(schema: Node) -> int:
    try:
        return len(orjson.dumps(schema))
    except orjson.JSONEncodeError:  # it may be a number of more than 64 bits
        try:
            return len(json.dumps(schema))
        except (TypeError, ValueError, RecursionError) as error:
            raise TooMuch("it is no JSON, or nests too deep") from error


def check_against(schema: Node, value: object) -> None:
    """Whether the value can be held against the schema in bounded time.

    Raises:
        TooMuch: it cannot.
    """
    _Work(_Graph(schema)).of(schema, value)


def _check_patterns(graph: _Graph) -> None:
    """Ends, and soon: `_Work` has been over the same ways."""
    known: dict[int, int] = {}
    if any(_patterns(graph, node, known) > MAX_PATTERNS for node in graph.nodes):
        raise TooMuch(f"a text would have to match more than {MAX_PATTERNS} patterns at once")
    named = (node.get("patternProperties") for node in graph.nodes)
    if sum(len(one) ** 2 for one in named if isinstance(one, Mapping)) > MAX_PAIRS:
        raise TooMuch(f"patternProperties: more than {MAX_PAIRS} pairs of patterns")


def _patterns(graph: _Graph, node: Node, known: dict[int, int]) -> int:
    """How many patterns a text has to match that is held against the schema."""
    if id(node) not in known:
        every = [*graph.targets(node), *_listed(node, "allOf"), *_schemas(map(node.get, _SAME))]
        ways = [[*_listed(node, key)] for key in ("anyOf", "oneOf")]
        known[id(node)] = (
            isinstance(node.get("pattern"), str)
            + sum(_patterns(graph, one, known) for one in every)
            + sum(max((_patterns(graph, one, known) for one in way), default=0) for way in ways)
        )
    return known[id(node)]


class _Graph:
    """A schema and where its references lead."""

    def __init__(self, root: Node) -> None:
        """Look at every object once.

        Raises:
            TooMuch: there are too many, or one has an address of its own.
        """
        self.root, self.nodes = root, list[Node]()
        self._named: dict[str, list[Node]] = {}
        self._height: dict[int, int] = {}
        order: list[tuple[object, list[object]]] = [(root, _inside(root))]
        for one, inside in order:
            if isinstance(one, Mapping):
                self._meet(one)
            order += [(inner, _inside(inner)) for inner in inside]
            if len(order) > MAX_PARTS:
                raise TooMuch(f"it has more than {MAX_PARTS} parts")
        for one, inside in reversed(order):
            self._height[id(one)] = 1 + max((self._height[id(x)] for x in inside), default=0)

    def _meet(self, node: Node) -> None:
        self.nodes.append(node)
        keys = ("$id", "id") if "draft-04" in str(self.root.get("$schema", "")) else ("$id",)
        for key in ("$anchor", "$dynamicAnchor", *keys):
            name = node.get(key)
            if not isinstance(name, str) or (node is self.root and key in keys):
                continue
            if key in keys and not name.startswith("#"):
                raise TooMuch(f"a part of it has an address of its own: {key} {name[:80]!r}")
            self._named.setdefault(name.removeprefix("#"), []).append(node)

    def targets(self, node: Node) -> list[Node]:
        """What the references of a node lead to.

        Raises:
            TooMuch: one leads out of the schema, or nowhere.
        """
        found: list[Node] = []
        for key in _REFERENCES:
            if isinstance(where := node.get(key), str):
                found += self._at(where)
        return found

    def _at(self, where: str) -> list[Node]:
        if not where.startswith("#"):
            raise TooMuch(f"a reference leads out of it: {where[:80]!r}")
        path = unquote(where[1:])
        if path in self._named:
            return self._named[path]
        if path and not path.startswith("/"):
            raise TooMuch(f"a reference leads nowhere: {where[:80]!r}")
        at: object = self.root
        for part in path.split("/")[1:]:
            at = _member(at, part.replace("~1", "/").replace("~0", "~"))
        if isinstance(at, Mapping):
            return [at]
        if isinstance(at, bool):
            return []
        raise TooMuch(f"a reference leads nowhere: {where[:80]!r}")

    def levels(self) -> int:
        """The nesting, if one read every target of a reference inside of the one before."""
        targets = {id(to): to for node in self.nodes for to in self.targets(node)}
        return self._height[id(self.root)] + sum(self._height[one] for one in targets)


class _Work:
    """Counts each pair of a schema and a part of the value once, however often it is met."""

    def __init__(self, graph: _Graph) -> None:
        self._graph = graph
        self._known: dict[tuple[int, int], int] = {}
        self._open: set[tuple[int, int]] = set()

    def of(self, node: Node, value: object) -> int:
        """How many schemas the value is held against, if it is held against this one.

        Raises:
            TooMuch: more than `MAX_WORK`, or without end.
        """
        pair = id(node), id(value)
        if pair in self._known:
            return self._known[pair]
        if pair in self._open:
            raise TooMuch("a reference leads back to itself, and nothing is read on the way")
        if len(self._open) >= _MAX_CALLS or len(self._known) > MAX_WORK:
            raise TooMuch("its references go on for too long")
        self._open.add(pair)
        work = _own(node, value)
        twice = 1 + sum(key in node for key in _AGAIN)
        for part in self._in_place(node):
            work += twice * self.of(part, value)
        for part, inner in _below(node, value):
            work += self.of(part, inner)
        self._open.discard(pair)
        if work > MAX_WORK:
            raise TooMuch(f"a value would be held against more than {MAX_WORK} of its parts")
        self._known[pair] = work
        return work

    def _in_place(self, node: Node) -> Iterator[Node]:
        """What the same part of a value is held against, too."""
        yield from self._graph.targets(node)
        yield from _schemas(map(node.get, _SAME))
        for key in _SAME_LISTS:
            yield from _listed(node, key)
        for key in _SAME_MAPS:
            if isinstance(named := node.get(key), Mapping):
                yield from _schemas(named.values())


def _inside(one: object) -> list[object]:
    """The objects and arrays directly inside of one."""
    if isinstance(one, Mapping):
        return [x for x in one.values() if isinstance(x, Mapping | list | tuple)]
    if isinstance(one, list | tuple):
        return [x for x in one if isinstance(x, Mapping | list | tuple)]
    return []


def _member(at: object, part: str) -> object:
    if isinstance(at, Mapping):
        return at.get(part)
    if isinstance(at, list | tuple) and part.isdecimal() and len(part) < 8 and int(part) < len(at):
        found: object = at[int(part)]
        return found
    return None


def _schemas(found: Iterable[object]) -> Iterator[Node]:
    """Those that are objects; `true` and `false` cost nothing."""
    return (one for one in found if isinstance(one, Mapping))


def _listed(node: Node, key: str) -> Iterator[Node]:
    several = node.get(key)
    return _schemas(several if isinstance(several, list | tuple) else ())


def _own(node: Node, value: object) -> int:
    """What a schema costs by itself."""
    letters = len(value) if "pattern" in node and isinstance(value, str) else 0
    patterns = node.get("patternProperties")
    if isinstance(patterns, Mapping) and isinstance(value, Mapping):
        letters += len(patterns) * sum(map(len, value))
    return 1 + letters


def _below(node: Node, value: object) -> Iterator[tuple[Node, object]]:
    """What the members or items of a value are held against."""
    if isinstance(value, Mapping):
        yield from _members(node, value)
    elif isinstance(value, list | tuple):
        yield from _items(node, value)


def _members(node: Node, value: Mapping[str, object]) -> Iterator[tuple[Node, object]]:
    named, patterns = node.get("properties"), node.get("patternProperties")
    if isinstance(named, Mapping):
        for name, part in named.items():
            if name in value and isinstance(part, Mapping):
                yield part, value[name]
    every = list(_schemas(map(node.get, _EVERY_MEMBER)))
    every += _schemas(patterns.values()) if isinstance(patterns, Mapping) else ()
    for part in every:
        yield from ((part, inner) for inner in value.values())
    for part in _schemas([node.get("propertyNames")]):
        yield from ((part, name) for name in value)


def _items(node: Node, value: list[object] | tuple[object, ...]) -> Iterator[tuple[Node, object]]:
    for key in ("prefixItems", "items"):
        if isinstance(places := node.get(key), list | tuple):
            both = zip(places, value, strict=False)
            yield from ((part, inner) for part, inner in both if isinstance(part, Mapping))
    for part in _schemas(map(node.get, _EVERY_ITEM)):
        yield from ((part, inner) for inner in value)
