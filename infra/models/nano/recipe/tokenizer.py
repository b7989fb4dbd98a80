"""The tokenizer: byte-level BPE with single digits and the chat markers as special tokens.

Owns its training, the ids of the markers and the encoding of a session with its targets.
Usage: python -m recipe.tokenizer OUT.json
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from .conversation import render, session
from .vocabulary import Voice

SIZE = 2048
MARKERS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>",
           "<tool_response>", "</tool_response>"]  # fmt: skip
END_OF_TEXT, START, END = 0, 1, 2
# The frame of a call is one piece each, digits stand alone, the rest is as in GPT-2.
PATTERN = (
    r"""\{"name": "|", "arguments": \{"|", "arguments": \["|": "|", "|"\}\}|"\]\}"""
    r"""|'(?:s|t|re|ve|m|ll|d)\b|\p{N}| ?\p{L}+(?:_\p{L}+)*| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
)


def texts(count: int) -> Iterator[str]:
    """Generated sessions as plain text."""
    voice = Voice(7, held=False)
    for _ in range(count):
        talk = session(voice)
        yield "".join(text for text, _ in render(talk["messages"], talk["tools"]))


def train(count: int = 12000) -> Tokenizer:
    """Learn the pieces."""
    out = Tokenizer(models.BPE())
    out.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    out.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=MARKERS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    out.train_from_iterator(texts(count), trainer)
    return out


def encode(tokenizer: Tokenizer, talk: dict[str, Any]) -> tuple[list[int], list[bool]]:
    """The ids of a session and which of them the model has to produce."""
    segments = render(talk["messages"], talk["tools"])
    ids: list[int] = []
    wanted: list[bool] = []
    pieces = tokenizer.encode_batch_fast([text for text, _ in segments])
    for (_, target), piece in zip(segments, pieces, strict=True):
        ids += piece.ids
        wanted += [target] * len(piece.ids)
    return ids, wanted


if __name__ == "__main__":
    train().save(sys.argv[1])
