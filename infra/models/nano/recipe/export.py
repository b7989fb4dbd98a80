"""Export: a checkpoint becomes a model folder that any Llama loader reads.

Owns config, tokenizer settings, chat template and weights in half precision.
Usage: python -m recipe.export RUN_FOLDER MODEL_FOLDER [--live]
The averaged weights are exported unless --live asks for the last ones.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from .model import Shape
from .tokenizer import END, END_OF_TEXT, MARKERS

TEMPLATE = Path(__file__).parent / "data" / "chat_template.jinja"


def config(shape: Shape) -> dict[str, Any]:
    """The model's config.json."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": shape.positions,
        "rms_norm_eps": shape.eps,
        "rope_theta": shape.theta,
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": END_OF_TEXT,
        "eos_token_id": END,
        "pad_token_id": END_OF_TEXT,
        "torch_dtype": "float16",
        "use_cache": True,
    }


def shape_of(config: dict[str, Any]) -> Shape:
    """The sizes that a config.json names."""
    return Shape(
        vocab=config["vocab_size"],
        hidden=config["hidden_size"],
        inner=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        theta=config["rope_theta"],
        eps=config["rms_norm_eps"],
        positions=config["max_position_embeddings"],
    )


def tokenizer_config(shape: Shape) -> dict[str, Any]:
    """The tokenizer_config.json."""
    markers = {
        str(index): {"content": marker, "lstrip": False, "normalized": False, "rstrip": False,
                     "single_word": False, "special": True}
        for index, marker in enumerate(MARKERS)
    }  # fmt: skip
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": markers,
        "add_bos_token": False,
        "bos_token": None,
        "eos_token": MARKERS[END],
        "pad_token": MARKERS[END_OF_TEXT],
        "unk_token": None,
        "model_max_length": shape.positions,
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE.read_text(encoding="utf-8"),
    }


def write(path: Path, value: dict[str, Any]) -> None:
    """One JSON file."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def export(run: Path, target: Path, live: bool) -> None:
    """Write the model folder."""
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    weights: dict[str, Tensor] = saved["model"] if live else saved["average"]
    shape = Shape(**saved["shape"])
    target.mkdir(parents=True, exist_ok=True)
    path = target / "model.safetensors"
    halves = {name: w.detach().half().contiguous() for name, w in weights.items()}
    save_file(halves, path, metadata={"format": "pt"})
    path.chmod(0o644)
    write(target / "config.json", config(shape))
    write(target / "tokenizer_config.json", tokenizer_config(shape))
    stops = {"bos_token_id": END_OF_TEXT, "eos_token_id": [END, END_OF_TEXT],
             "pad_token_id": END_OF_TEXT, "do_sample": False}  # fmt: skip
    write(target / "generation_config.json", stops)
    special = {"eos_token": MARKERS[END], "pad_token": MARKERS[END_OF_TEXT]}
    write(target / "special_tokens_map.json", special)
    shutil.copy(run / "tokenizer.json", target / "tokenizer.json")
    shutil.copy(TEMPLATE, target / "chat_template.jinja")
    figures = {n: saved[n] for n in ("step", "tokens", "targets", "seconds", "loss")}
    write(target / "training.json", {**figures, "averaged": not live})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--live", action="store_true")
    given = parser.parse_args()
    export(given.run, given.target, given.live)
