"""Owns a model made at test time: random weights in the shape of a real Hugging Face folder.

Two layers, byte-level vocabulary with a few merges, the control tokens of the Qwen family. What it
says means nothing, but it says it deterministically, which is all that an engine can be held to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CONTROL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
)
CONTEXT = 1024
TEMPLATE = """\
{%- if tools %}{{- '<|im_start|>system\\n# Tools\\n' }}
{%- for tool in tools %}{{- tool | tojson + '\\n' }}{%- endfor %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + m.content + '\\n</tool_response><|im_end|>\\n' }}
{%- else %}
{{- '<|im_start|>' + m.role + '\\n' + m.content }}
{%- for call in m.tool_calls or [] %}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson + '}\\n</tool_call>' }}
{%- endfor %}{{- '<|im_end|>\\n' }}
{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


def build_tiny_model(folder: Path, *, seed: int = 7, **changes: Any) -> Path:
    """Write the folder; `changes` go into config.json, and the weights follow them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = _config(tokenizer.get_vocab_size()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0]}))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    kind = np.float16 if config["torch_dtype"] == "float16" else np.float32
    weights = {name: w.astype(kind) for name, w in _weights(config, seed).items()}
    _write_safetensors(folder / "model.safetensors", weights)
    return folder


def _config(vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "vocab_size": vocabulary + 5,  # padded, as real ones are
        "hidden_size": 128,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "eos_token_id": 2,
    }


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(CONTROL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the tool said hello to the user and the world " * 4], trainer)
    return tokenizer


def _weights(config: Mapping[str, Any], seed: int) -> dict[str, NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    query, kv = (config[f"num_{kind}_heads"] * head for kind in ("attention", "key_value"))
    weights = {"model.embed_tokens.weight": random.normal(0, 0.3, (config["vocab_size"], hidden))}
    weights["model.norm.weight"] = np.ones(hidden)
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        weights[f"{name}.input_layernorm.weight"] = np.ones(hidden)
        weights[f"{name}.post_attention_layernorm.weight"] = np.ones(hidden)
        for part, shape in {
            "self_attn.q_proj": (query, hidden),
            "self_attn.k_proj": (kv, hidden),
            "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, query),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }.items():
            weights[f"{name}.{part}.weight"] = random.normal(0, 0.15, shape)
        if config["model_type"] == "qwen2":
            for part, width in (("q_proj", query), ("k_proj", kv), ("v_proj", kv)):
                weights[f"{name}.self_attn.{part}.bias"] = random.normal(0, 0.3, width)
        if config["model_type"] == "qwen3":
            for part in ("q_norm", "k_norm"):
                weights[f"{name}.self_attn.{part}.weight"] = random.normal(1, 0.2, head)
    if not config["tie_word_embeddings"]:
        shape = (config["vocab_size"], hidden)
        weights["lm_head.weight"] = random.normal(0, 0.3, shape)
    return weights


def _write_safetensors(file: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    listing: dict[str, Any] = {}
    place = 0
    for name, values in tensors.items():
        kind = {2: "F16", 4: "F32"}[values.dtype.itemsize]
        listing[name] = {
            "dtype": kind,
            "shape": list(values.shape),
            "data_offsets": [place, place + values.nbytes],
        }
        place += values.nbytes
    head = json.dumps(listing).encode()
    with file.open("wb") as stream:
        stream.write(len(head).to_bytes(8, "little") + head)
        for values in tensors.values():
            stream.write(values.tobytes())
