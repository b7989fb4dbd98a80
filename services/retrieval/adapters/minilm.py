"""Owns the embedding model all-MiniLM-L6-v2 on OpenVINO. Must not know documents or storage."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from services.retrieval.adapters.minilm_files import (
    DIGESTS,
    check_files,
    installed_folder,
    read_weights,
)
from services.retrieval.adapters.minilm_graph import HIDDEN, compile_encoder
from services.retrieval.core.rows import Vector
from services.retrieval.ports import Embedded

MODEL = "all-MiniLM-L6-v2"
TAG = f"{MODEL}/{HIDDEN}/{DIGESTS['model.safetensors'][:16]}"
"""Known before the model is loaded, because the digest of its weights is."""
CONTEXT = 256  # of sentence_bert_config.json; the tokenizer file says 128, padded to 128
_BATCH = 8  # padding eats what a larger batch gains on a few cores (engine.md section 8)


class MiniLmEmbedder:
    """The default embedder. Loads in the constructor (a second), so call it in a thread.

    One thread owns the model; a large document goes through it in small batches, so that a
    question waits for one batch at the most.

    Raises:
        Permanent: `model_missing` or `model_hash_mismatch`.
    """

    model = MODEL
    dimension = HIDDEN

    def __init__(self, folder: Path | None = None, threads: int = 2) -> None:
        folder = folder or installed_folder()
        check_files(folder)
        tokenizer = str(folder / "tokenizer.json")
        self._tokenizer, self._counter = (Tokenizer.from_file(tokenizer) for _ in range(2))
        self._tokenizer.enable_truncation(CONTEXT)
        self._tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")  # noqa: S106 - a word piece
        self._counter.no_truncation()
        self._counter.no_padding()
        encoder = compile_encoder(read_weights(folder / "model.safetensors"), threads)
        self._request: Any = encoder.create_infer_request()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embed")

    @property
    def tag(self) -> str:
        """Name, dimension and the digest of the weights."""
        return TAG

    def count_tokens(self, text: str) -> int:
        """Word pieces, without the two special ones at the ends."""
        return len(self._counter.encode(text, add_special_tokens=False))

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Sorted by length, because a batch is as long as its longest text."""
        loop = asyncio.get_running_loop()
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        vectors: dict[int, Vector] = {}
        tokens = 0
        for at in range(0, len(order), _BATCH):
            part = order[at : at + _BATCH]
            found = await loop.run_in_executor(self._thread, self._run, [texts[i] for i in part])
            vectors.update(zip(part, found.vectors, strict=True))
            tokens += found.tokens
        return Embedded([vectors[index] for index in range(len(texts))], tokens)

    def _run(self, texts: list[str]) -> Embedded:
        encoded = self._tokenizer.encode_batch(texts)
        ids = np.array([item.ids for item in encoded], np.int64)
        mask = np.array([item.attention_mask for item in encoded], np.int64)
        self._request.infer([ids, mask])  # releases the GIL
        vectors = self._request.get_output_tensor(0).data.tolist()
        return Embedded(vectors, int(mask.sum()))

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)
