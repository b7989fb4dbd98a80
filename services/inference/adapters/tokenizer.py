"""Owns tokens and their text: the tokenizer port on llguidance's reader of tokenizer.json.

Must not know templates, engines or requests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from llguidance import LLTokenizer

from services.inference.adapters.model_folder import (
    read_added_tokens,
    read_config,
    read_eos_ids,
)
from services.inference.adapters.pieces_cache import PiecesCache
from services.inference.core.chat import Segment

_SHOWN = frozenset({"<tool_call>", "</tool_call>", "<think>", "</think>"})

_NOWHERE = re.compile("(?!)")


def _at_any_of(words: Iterable[str]) -> re.Pattern[str]:
    """Splits at words and keeps them; longest first, where one is the beginning of another."""
    longest = sorted(filter(None, words), key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, longest)) + ")") if longest else _NOWHERE


class FolderTokenizer:
    """The tokenizer of a Hugging Face folder.

    `shown` are the control tokens that are part of an answer, since its reader needs their text.
    """

    def __init__(self, folder: Path, shown: Iterable[str] = _SHOWN) -> None:
        self._shown = frozenset(shown)
        self._added = read_added_tokens(folder)
        self._eos = read_eos_ids(folder)
        self.vocabulary = int(read_config(folder)["vocab_size"])
        self.vendor = LLTokenizer(
            str(folder / "tokenizer.json"), n_vocab=self.vocabulary, eos_token=sorted(self._eos)
        )
        # Some vocabularies add runs of spaces for compactness: they control nothing.
        self._control = frozenset(text for text, _ in self._added.values() if text.strip())
        self._cut = _at_any_of(text for text, _ in self._added.values())
        self._cache = PiecesCache() if self._separable() else None
        self._bytes = tuple(map(self._bytes_of, range(self.vocabulary)))
        self._single = {
            piece[0]: token
            for token, piece in enumerate(self._bytes)
            if len(piece) == 1 and token not in self._added
        }

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return self._eos

    @property
    def control(self) -> frozenset[str]:
        """Texts of all added tokens that mean something."""
        return self._control

    def encode(self, prompt: Sequence[Segment], salt: str = "") -> tuple[int, ...]:
        """Token ids of a prompt; see the port."""
        ids: list[int] = []
        for segment in prompt:
            if segment.literal:
                ids += self._plain(segment.text)
            elif self._cache is None:
                ids += self._marked(segment.text)
            else:
                for piece in self._pieces(segment.text):
                    ids += self._remembered(piece, salt, self._cache)
        return tuple(ids)

    def decode(self, token_id: int) -> bytes:
        """The bytes a reader sees; see the port."""
        return self._bytes[token_id] if 0 <= token_id < self.vocabulary else b""

    def label(self, token_id: int) -> str:
        """How a token is written in a list of tokens; see the port."""
        text, _ = self._added.get(token_id, ("", False))
        return text or self.decode(token_id).decode("utf-8", "replace")

    def _separable(self) -> bool:
        """Whether the pieces between added tokens can be read one by one.

        A vocabulary that marks the beginning of a text, say, reads its pieces otherwise alone.
        """
        samples = [f"  a b{text}\n Zwei{text}3" for text, _ in self._added.values()]
        return all(
            self._marked(sample)
            == [token for piece in self._pieces(sample) for token in self._marked(piece)]
            for sample in samples
        )

    def _pieces(self, text: str) -> Iterator[str]:
        return filter(None, self._cut.split(text))

    def _remembered(self, piece: str, salt: str, cache: PiecesCache) -> Sequence[int]:
        found = cache.get(salt, piece)
        if found is None:
            found = self._marked(piece)
            cache.put(salt, piece, found)
        return found

    def _marked(self, text: str) -> list[int]:
        return self.vendor.tokenize_str(text, parse_special=True)

    def _plain(self, text: str) -> list[int]:
        """The vendor reads added tokens even when told not to, so it never sees one whole."""
        ids = self._marked(text)
        if not any(token in self._added for token in ids):
            return ids
        if len(text) == 1:  # an added token of one character: only its bytes are left
            return [self._single[byte] for byte in text.encode() if byte in self._single]
        return self._plain(text[:1]) + self._plain(text[1:])

    def _bytes_of(self, token_id: int) -> bytes:
        text, special = self._added.get(token_id, ("", False))
        if special and text not in self._shown:
            return b""
        piece = self.vendor.decode_bytes([token_id])
        # Ids past the tokenizer (padding of the embedding) decode to a text like <[309]>.
        return b"" if piece == f"<[{token_id}]>".encode() and not text else piece
