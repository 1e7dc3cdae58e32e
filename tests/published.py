"""The published pairs as files that are true to the byte in their headers and hold no weights: the rest is holes."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from hub_double import Blob, HubDouble, blob_of

from boomerang_cli.engine.checkpoint.tensors import DTYPE_BYTES
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.published import PUBLISHED_STUDENTS

Shapes = dict[str, tuple[str, tuple[int, ...]]]
"""Dtype and shape by tensor name."""


@dataclass(frozen=True)
class Published:
    """A pair as its repositories tell.

    Attributes:
        config: the teacher's ``config.json``, as far as it matters here.
        parameters: of the teacher, as its page counts them.
        n: the number of patchable blocks.
        dtypes: in which the teacher and the student are stored.
    """

    teacher: str
    student: str
    config: dict[str, Any]
    parameters: int
    n: int
    order: str
    dtypes: tuple[str, str]

    @property
    def depth(self) -> int:
        depth: int = self.config["num_hidden_layers"]
        return depth

    @property
    def layer_map(self) -> LayerMap:
        return LayerMap(self.depth, PUBLISHED_STUDENTS[self.student].rule.kept(self.depth))


def _neox(hidden: int, vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], "hidden_size": hidden,
        "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 4 * hidden, "vocab_size": vocabulary,
        "max_position_embeddings": 2048, "hidden_act": "gelu", "tie_word_embeddings": False, "torch_dtype": "float16",
    }  # fmt: skip


def _qwen3(hidden: int, intermediate: int, tied: bool, **changes: Any) -> dict[str, Any]:
    return {
        "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": hidden, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": intermediate,
        "vocab_size": 151936, "hidden_act": "silu", "tie_word_embeddings": tied, "torch_dtype": "bfloat16",
        "max_window_layers": 36, "use_sliding_window": False, "sliding_window": None, **changes,
    }  # fmt: skip


_LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 3072, "num_hidden_layers": 28,
    "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 8192,
    "vocab_size": 128256, "hidden_act": "silu", "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
                                             "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
}  # fmt: skip

PAIRS = [
    Published("Qwen/Qwen3-4B-Base", "Harvard-DCML/boomerang-qwen3-2.3B", _qwen3(2560, 9728, tied=True),
              4_022_468_096, 17, "last", ("BF16", "BF16")),
    Published("Qwen/Qwen3-8B-Base", "Harvard-DCML/boomerang-qwen3-4.9B", _qwen3(4096, 12288, tied=False),
              8_190_735_360, 17, "last", ("BF16", "BF16")),
    Published("EleutherAI/pythia-2.8b", "Harvard-DCML/boomerang-pythia-1.6B", _neox(2560, 50304),
              2_775_208_960, 15, "last", ("F16", "F32")),
    Published("EleutherAI/pythia-6.9b", "Harvard-DCML/boomerang-pythia-3.8B", _neox(4096, 50432),
              6_857_302_016, 15, "last", ("F16", "F32")),
    Published("meta-llama/Llama-3.2-3B", "Harvard-DCML/boomerang-llama-3.2-1.9B", _LLAMA,
              3_212_749_824, 13, "first", ("BF16", "BF16")),
]  # fmt: skip

_INSTRUCT = {"rope_theta": 5_000_000, "max_position_embeddings": 262144}
_QWEN3_14B = {"num_hidden_layers": 40, "num_attention_heads": 40, "max_window_layers": 40}
_LLAMA_31 = {
    **_LLAMA, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 14336,
    "tie_word_embeddings": False,
}  # fmt: skip
_OLMO_3 = {
    "model_type": "olmo3", "architectures": ["Olmo3ForCausalLM"], "hidden_size": 4096, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "intermediate_size": 11008, "vocab_size": 100278,
    "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16", "sliding_window": 4096,
    "rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 500000.0},
                        "full_attention": {"rope_type": "yarn", "rope_theta": 500000.0, "factor": 8.0}},
}  # fmt: skip

ADAPT = [
    Published("Qwen/Qwen3-4B-Base", "Harvard-DCML/ADAPT-Qwen3-2.3B-Base", _qwen3(2560, 9728, tied=True),
              4_022_468_096, 17, "last", ("BF16", "F32")),
    Published("Qwen/Qwen3-4B-Instruct-2507", "Harvard-DCML/ADAPT-Qwen3-2.3B-Instruct",
              _qwen3(2560, 9728, tied=True, **_INSTRUCT), 4_022_468_096, 17, "last", ("BF16", "F32")),
    Published("Qwen/Qwen3-14B-Base", "Harvard-DCML/ADAPT-Qwen3-8.5B-Base",
              _qwen3(5120, 17408, tied=False, **_QWEN3_14B), 14_768_307_200, 19, "last", ("BF16", "F32")),
    Published("Qwen/Qwen3-14B", "Harvard-DCML/ADAPT-Qwen3-8.5B",
              _qwen3(5120, 17408, tied=False, **_QWEN3_14B), 14_768_307_200, 19, "last", ("BF16", "F32")),
    Published("meta-llama/Llama-3.1-8B-Instruct", "Harvard-DCML/ADAPT-Llama3.1-4.8B-Instruct", _LLAMA_31,
              8_030_261_248, 15, "first", ("BF16", "F32")),
    Published("allenai/Olmo-3-7B-Instruct", "Harvard-DCML/ADAPT-Olmo-3-4.3B-Instruct", _OLMO_3,
              7_298_011_136, 15, "first", ("BF16", "F32")),
]  # fmt: skip
"""The students of arXiv 2608.22854. In which dtype they are stored is known of the first alone."""


def shapes(config: dict[str, Any], depth: int, dtype: str, *, buffers: bool = False) -> Shapes:
    """Return a model's tensors; with ``buffers``, those too that older tools stored beside the weights."""
    found = _neox_shapes(config, depth) if config["model_type"] == "gpt_neox" else _llama_shapes(config, depth)
    typed: Shapes = {name: (dtype, shape) for name, shape in found.items()}
    for layer in range(depth if buffers else 0):
        prefix = f"gpt_neox.layers.{layer}.attention."
        typed[f"{prefix}bias"] = ("BOOL", (1, 1, 2048, 2048))
        typed[f"{prefix}masked_bias"] = (dtype, ())
        typed[f"{prefix}rotary_emb.inv_freq"] = (dtype, (10,))
    return typed


def _neox_shapes(config: dict[str, Any], depth: int) -> dict[str, tuple[int, ...]]:
    hidden, wide, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    layer: dict[str, tuple[int, ...]] = {
        "attention.query_key_value.weight": (3 * hidden, hidden), "attention.query_key_value.bias": (3 * hidden,),
        "attention.dense.weight": (hidden, hidden), "attention.dense.bias": (hidden,),
        "mlp.dense_h_to_4h.weight": (wide, hidden), "mlp.dense_h_to_4h.bias": (wide,),
        "mlp.dense_4h_to_h.weight": (hidden, wide), "mlp.dense_4h_to_h.bias": (hidden,),
    }  # fmt: skip
    layer |= {f"{norm}.{part}": (hidden,) for norm in ("input_layernorm", "post_attention_layernorm")
              for part in ("weight", "bias")}  # fmt: skip
    found = {f"gpt_neox.layers.{index}.{name}": shape for index in range(depth) for name, shape in layer.items()}
    found |= {"gpt_neox.embed_in.weight": (vocabulary, hidden), "embed_out.weight": (vocabulary, hidden)}
    return found | {f"gpt_neox.final_layer_norm.{part}": (hidden,) for part in ("weight", "bias")}


def _llama_shapes(config: dict[str, Any], depth: int) -> dict[str, tuple[int, ...]]:
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim", hidden // config["num_attention_heads"])
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    layer: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj.weight": (queries, hidden), "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.v_proj.weight": (keys, hidden), "self_attn.o_proj.weight": (hidden, queries),
        "mlp.gate_proj.weight": (wide, hidden), "mlp.up_proj.weight": (wide, hidden),
        "mlp.down_proj.weight": (hidden, wide),
        "input_layernorm.weight": (hidden,), "post_attention_layernorm.weight": (hidden,),
    }  # fmt: skip
    if config["model_type"] == "qwen3":
        layer |= {"self_attn.q_norm.weight": (head,), "self_attn.k_norm.weight": (head,)}
    if config["model_type"] == "olmo3":
        layer |= {"self_attn.q_norm.weight": (queries,), "self_attn.k_norm.weight": (keys,)}
        layer["post_feedforward_layernorm.weight"] = layer.pop("input_layernorm.weight")
    found = {f"model.layers.{index}.{name}": shape for index in range(depth) for name, shape in layer.items()}
    found |= {"model.embed_tokens.weight": (config["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    return found if config["tie_word_embeddings"] else found | {"lm_head.weight": (config["vocab_size"], hidden)}


def write_teacher(folder: Path, pair: Published) -> Path:
    tensors = shapes(pair.config, pair.depth, pair.dtypes[0], buffers=pair.config["model_type"] == "gpt_neox")
    return _write(folder, pair.config, tensors)


def write_student(folder: Path, pair: Published, *, head: bool = False, **changes: Any) -> Path:
    """Write the student; its ``student_config.json`` holds what the published ones hold, and names no teacher.

    Args:
        head: whether a tied student's files hold the one matrix twice.
        changes: values of its ``config.json``; None leaves one out.
    """
    layer_map = pair.layer_map
    config = {**pair.config, "num_hidden_layers": layer_map.student_layers, **changes}
    tensors = shapes({**config, "tie_word_embeddings": pair.config["tie_word_embeddings"] and not head},
                     layer_map.student_layers, pair.dtypes[1])  # fmt: skip
    _write(folder, {key: value for key, value in config.items() if value is not None}, tensors)
    record = {"pruned_teacher_layers": list(layer_map.pruned), "copied_teacher_layers": list(layer_map.kept)}
    (folder / "student_config.json").write_text(json.dumps(record))
    return folder


def _write(folder: Path, config: dict[str, Any], tensors: Shapes, shard_bytes: int = 5_000_000_000) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    shards: list[Shapes] = [{}]
    for name in sorted(tensors, key=lambda name: (-DTYPE_BYTES[tensors[name][0]], name)):  # as the libraries write them
        if shards[-1] and sum(map(_size, shards[-1].values())) + _size(tensors[name]) > shard_bytes:
            shards.append({})
        shards[-1][name] = tensors[name]
    if len(shards) == 1:
        _write_holes(folder / "model.safetensors", shards[0])
        return folder
    files = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    for file, shard in zip(files, shards, strict=True):
        _write_holes(folder / file, shard)
    weight_map = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def _size(tensor: tuple[str, tuple[int, ...]]) -> int:
    return prod(tensor[1]) * DTYPE_BYTES[tensor[0]]


def _write_holes(path: Path, tensors: Shapes) -> None:
    header, position = {}, 0
    for name, (dtype, shape) in tensors.items():
        stop = position + _size((dtype, shape))
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, stop]}
        position = stop
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, 8 + len(text) + position)


def add_to_cache(cache: Path, repo_id: str, folder: Path) -> None:
    """Put a folder into huggingface_hub's cache as that repository's main."""
    repo, commit = cache / f"models--{repo_id.replace('/', '--')}", hashlib.sha1(repo_id.encode()).hexdigest()
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots").mkdir()
    folder.rename(repo / "snapshots" / commit)


def add_to_hub(hub: HubDouble, repo_id: str, folder: Path) -> None:
    """Put a folder on the Hub without reading its gigabytes of holes."""
    commit = hub.add_model(repo_id, {"config.json": b"{}"})
    repo, blobs = hub.repos[repo_id], {}
    for path in folder.iterdir():
        oid = hashlib.sha256(str(path).encode()).hexdigest()
        large = path.suffix == ".safetensors"
        blobs[path.name] = Blob(path, path.stat().st_size, oid, lfs=True) if large else blob_of(path)
    repo.objects |= {blob.oid: blob for blob in blobs.values() if blob.lfs}
    assert repo.commit("refs/heads/main", blobs, "Holes").parent == repo.commits[commit]
