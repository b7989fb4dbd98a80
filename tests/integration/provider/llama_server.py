"""llama.cpp as a server of its own: `python -m ...provider.llama_server FILE KEY PORT [vectors]`.

Somebody else's OpenAI- and Anthropic-compatible server, from a package, on the small model of this
repository, whose folder becomes a GGUF file here. It prints its address and serves until it is
told to stop: text, or with `vectors` the mean of the states of its last layer.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import gguf
import numpy

from infra.local.settings import ROOT

NANO = ROOT / "infra" / "models" / "nano"
CONTEXT, SLOTS = 2048, 4
_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_FRAMES = ('{"name": "', '", "arguments": {"', '", "arguments": ["', '": "', '", "', '"}}', '"]}')
"""Pieces of the small model's tokenizer that llama.cpp would take apart: it knows no such rule."""
_TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}


def write_gguf(folder: Path, file: Path) -> None:
    """A Llama folder in Hugging Face form as a GGUF file, weights in float32."""
    config = json.loads((folder / "config.json").read_bytes())
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_vocab_size(config["vocab_size"])
    _add_tokenizer(writer, folder, config)
    for name, values in _weights(folder / "model.safetensors"):
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
        found = heads.get(name.split(".")[-2])
        writer.add_tensor(_renamed(name), _interleaved(values, config[found]) if found else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, folder: Path, config: dict[str, int]) -> None:
    found = json.loads((folder / "tokenizer.json").read_bytes())
    added = {entry["id"]: entry["content"] for entry in found["added_tokens"]}
    texts = {number: text for text, number in found["model"]["vocab"].items()} | added
    whole = {found["model"]["vocab"][text.replace(" ", "Ġ")]: text for text in _FRAMES}
    texts |= whole
    size = config["vocab_size"]
    kinds = gguf.TokenType
    # the tags of calls are text that the server's parser wants to see
    control = {number for number, text in added.items() if text.startswith("<|")}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([texts.get(number, f"[PAD{number}]") for number in range(size)])
    writer.add_token_types(
        [
            kinds.CONTROL
            if number in control
            else kinds.USER_DEFINED
            if number in added or number in whole
            else kinds.NORMAL
            if number in texts
            else kinds.UNUSED
            for number in range(size)
        ]
    )
    merges = found["model"]["merges"]
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template((folder / "chat_template.jinja").read_text())


def _weights(file: Path) -> list[tuple[str, numpy.ndarray]]:
    """All of a safetensors file (a length, a header in JSON, then the numbers) as float32."""
    body = file.read_bytes()
    start = 8 + int.from_bytes(body[:8], "little")
    found = []
    for name, entry in json.loads(body[8:start]).items():
        if name != "__metadata__":
            begin, end = (start + offset for offset in entry["data_offsets"])
            kind = {"F16": numpy.float16, "F32": numpy.float32}[entry["dtype"]]
            values = numpy.frombuffer(body[begin:end], kind).reshape(entry["shape"])
            found.append((name, values.astype(numpy.float32)))
    return found


def _renamed(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem in _TOP:
        return f"{_TOP[stem]}.weight"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{_NAMES[part]}.weight"


def _interleaved(values: numpy.ndarray, heads: int) -> numpy.ndarray:
    """Hugging Face rotates halves, llama.cpp neighbours: the rows of a head are dealt anew."""
    rows, columns = values.shape
    pairs = values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2)
    return numpy.ascontiguousarray(pairs.reshape(rows, columns))


def main() -> None:
    import xllamacpp  # the server alone needs it: whoever starts it does not

    parameters = xllamacpp.CommonParams()
    parameters.model.path = sys.argv[1]
    parameters.model_alias = {"nano"}
    parameters.n_ctx, parameters.n_parallel = CONTEXT * SLOTS, SLOTS
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.api_keys = [sys.argv[2]]
    parameters.hostnames, parameters.port = ["127.0.0.1"], int(sys.argv[3])
    if sys.argv[4:] == ["vectors"]:
        parameters.embedding = True
        parameters.n_ctx, parameters.n_parallel = CONTEXT, 1  # in one batch inputs get mixed up
        parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)  # noqa: T201
    threading.Event().wait()


if __name__ == "__main__":
    main()
