"""The AsyncAPI 3.0 document of the bus, made from the tables of subjects, messages and rights."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec

from infra.docs.channels import HEADERS, PARAMETERS, Channel, channels
from infra.docs.traffic import Part, parts_in, streams_of
from shared.bus.claims import CLAIM
from shared.subjects import BUCKETS, STREAMS

Json = dict[str, Any]
VERSION = "3.0.0"
JSON, BYTES, TEXT = "application/json", "application/octet-stream", "text/plain"
_SCHEMAS = "#/components/schemas/{name}"
_ANYTHING = {"description": "Any JSON value."}
_PLAIN = {"empty": TEXT, "bytes": BYTES}
_ABOUT = (
    "Every subject of the bus: what travels on it, which stream keeps it, and who may send to it "
    "or hear it. An operation stands for a right of the table of permissions; the operator "
    "(`admin`) may do everything, and a tenant's client what `tenant.` operations say, in its own "
    "name. Fields that a reader does not know are passed over, and what is absent has its default. "
    "`x-millrace-ways` says how a message arrives: by a subscription, by a consumer of "
    "JetStream, or by reading a stream."
)
_SECURITY: Json = {
    "nkey": {
        "type": "asymmetricEncryption",
        "description": "An NKey (Ed25519): the client signs what the server sends. Every service, "
        "the operator and each tenant have one of their own.",
    },
    "credentials": {
        "type": "asymmetricEncryption",
        "description": "A file of credentials (a JWT and its key), for a server of somebody else's "
        "that is run by accounts and operators.",
    },
    "token": {
        "type": "apiKey",
        "in": "password",
        "description": "A token, in `nats.json` of the data folder (mode 600) for the embedded "
        "server.",
    },
}


def asyncapi(version: str) -> Json:
    """The document, for this version of Millrace."""
    rows = channels()
    references = [{"$ref": f"#/components/securitySchemes/{name}"} for name in _SECURITY]
    return {
        "asyncapi": VERSION,
        "info": {"title": "Millrace on NATS", "version": version, "description": _ABOUT},
        "defaultContentType": JSON,
        "servers": {"nats": _server(references)},
        "channels": _channels(rows),
        "operations": {
            _operation_name(row, part): _operation(row, part)
            for row in rows
            for part in parts_in(row)
        },
        "components": {"schemas": _schemas(rows), "securitySchemes": _SECURITY},
    }


def _server(security: list[Json]) -> Json:
    return {
        "host": "{host}:{port}",
        "protocol": "nats",
        "description": "The embedded server, or the one that MILLRACE_NATS_URL names. With "
        "MILLRACE_BUS_TLS and in containers it speaks TLS from the first byte.",
        "variables": {
            "host": {"default": "127.0.0.1", "description": "As nats.json or the setting has it."},
            "port": {"default": "4222", "description": "The embedded server takes a free one."},
        },
        "security": security,
    }


def _channels(rows: tuple[Channel, ...]) -> Json:
    found: Json = {}
    for row in rows:
        found[row.name] = _channel(row)
        if row.answers or row.answered:
            found[_reply_name(row)] = {
                "address": None,
                "title": f"Answers of {row.name}",
                "description": "The inbox that the question names.",
                "messages": _answers(row),
            }
    return found


def _channel(row: Channel) -> Json:
    found: Json = {"address": row.address, "description": row.about, "messages": _messages(row)}
    if row.parameters:
        found["parameters"] = {name: {"description": PARAMETERS[name]} for name in row.parameters}
    if streams := streams_of(row):
        found["x-millrace-streams"] = [_kept_in(stream) for stream in streams]
    return found


def _kept_in(name: str) -> Json:
    """What is said of a stream or bucket in its own table, as far as it is something."""
    row = next((row for row in (*STREAMS, *BUCKETS) if name in (row.name, f"KV_{row.name}")), None)
    if row is None:
        return {"name": name}
    told = {key: value for key, value in asdict(row).items() if value not in (0, -1, {}, False)}
    return told | {"name": name}


def _messages(row: Channel) -> Json:
    if row.plain:
        return {"plain": _plain(row.plain, row.headers)}
    found = {kind.__name__: _message(kind, row.headers) for kind in row.bodies}
    if row.large is not None:
        found[row.large.__name__] = _message(row.large, (*row.headers, CLAIM), claimed=True)
    return found


def _answers(row: Channel) -> Json:
    if row.answered:
        return {"plain": {"contentType": TEXT, "payload": {"const": row.answered}}}
    claimed = {kind: kind.__name__ == "Claimed" for kind in row.answers}
    return {
        kind.__name__: _message(kind, (CLAIM,) if large else (), claimed=large)
        for kind, large in claimed.items()
    }


def _message(kind: type, headers: tuple[str, ...], *, claimed: bool = False) -> Json:
    summary = (kind.__doc__ or "").strip().partition("\n")[0]
    found: Json = {"name": kind.__name__, "contentType": JSON, "payload": _reference(kind)}
    if summary:
        found["summary"] = summary
    return found | _headers(headers, claimed=claimed)


def _plain(what: str, headers: tuple[str, ...]) -> Json:
    found: Json = {"contentType": _PLAIN.get(what, JSON), "summary": what}
    if what == "empty":
        found["payload"] = {"type": "string", "maxLength": 0}
    return found | _headers(headers)


def _headers(names: tuple[str, ...], *, claimed: bool = False) -> Json:
    if not names:
        return {}
    schema: Json = {"type": "object", "properties": {name: HEADERS[name] for name in names}}
    return {"headers": schema | ({"required": [CLAIM]} if claimed else {})}


def _operation_name(row: Channel, part: Part) -> str:
    return f"{part.party}.{part.action}.{row.name}"


def _operation(row: Channel, part: Part) -> Json:
    found: Json = {
        "action": part.action,
        "channel": {"$ref": f"#/channels/{_escaped(row.name)}"},
        "summary": f"{part.party} {'sends' if part.action == 'send' else 'hears'}: {row.about}",
        "tags": [{"name": part.party}],
        "x-millrace-ways": list(part.ways),
    }
    if row.answers or row.answered:
        reply = f"#/channels/{_escaped(_reply_name(row))}"
        found["reply"] = {"channel": {"$ref": reply}}
    return found


def _reply_name(row: Channel) -> str:
    return f"{row.name}.reply"


def _escaped(name: str) -> str:
    """A name within a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _schemas(rows: tuple[Channel, ...]) -> Json:
    kinds = dict.fromkeys(
        kind
        for row in rows
        for kind in (*row.bodies, *row.answers, *((row.large,) if row.large else ()))
    )
    _, found = msgspec.json.schema_components(
        kinds, schema_hook=lambda _kind: _ANYTHING, ref_template=_SCHEMAS
    )
    return dict(sorted(found.items()))


def _reference(kind: type) -> Json:
    return {"$ref": _SCHEMAS.format(name=kind.__name__)}
