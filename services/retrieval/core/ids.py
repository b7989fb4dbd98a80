"""Owns the derived ids of chunks and of the index. Must not know storage."""

from __future__ import annotations

import hashlib

import orjson

from services.retrieval.core.chunking import CHUNKER_VERSION

SCHEMA_VERSION = "1"
"""Of the rows in the vector store: change it when their fields change."""


def chunk_id(tenant: str, collection: str, document: str, ordinal: int) -> str:
    """The id of a passage: derived, so that indexing a document again overwrites it."""
    return _digest(tenant, collection, document, ordinal, CHUNKER_VERSION)


def index_tag(embedder: str, chunk_tokens: int) -> str:
    """What an index was built with; a different tag means that it has to be built anew."""
    return _digest(embedder, chunk_tokens, CHUNKER_VERSION, SCHEMA_VERSION)[:12]


def _digest(*parts: str | int) -> str:
    # A JSON array, because joined strings could be cut in two ways.
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()
