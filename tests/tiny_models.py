"""Tiny real models of every family, and pairs of a teacher and an independently initialised student."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

VOCABULARY = 64
LAYERS = 8
KEPT = (0, 2, 4, 5, 7)
"""Blocks 0, 1 and 3 are patchable; 2 and 4 are one layer each, one in the middle and one at the end."""

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_MIXED = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"] * (LAYERS // 4)

# What a family adds: sliding windows shorter than the text, per-layer lists that no rule would give, expert schedules.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False},
    "mistral": {"sliding_window": 4},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 4},
    "phi3": {"sliding_window": 4},
    "olmo2": {},
    "olmo3": {"sliding_window": 4, "layer_types": _MIXED},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 3},
    "qwen3": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 5, "tie_word_embeddings": True},
    "gemma2": {"sliding_window": 4, "query_pre_attn_scalar": 8},
    "gemma3_text": {"sliding_window": 4, "layer_types": _MIXED, "query_pre_attn_scalar": 8},
    "smollm3": {"no_rope_layer_interval": 3, "use_sliding_window": True, "sliding_window": 4},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 4, "layer_types": _MIXED},
    "qwen3_moe": {**_EXPERTS, "mlp_only_layers": [3], "decoder_sparse_step": 2},
    "qwen3_next": {
        **_EXPERTS,
        "layer_types": ["linear_attention", "full_attention", "full_attention", "linear_attention"] * (LAYERS // 4),
        "mlp_only_layers": [2],
        "decoder_sparse_step": 1,
        "shared_expert_intermediate_size": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
    "deepseek_v3": {
        "first_k_dense_replace": 3,
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "moe_intermediate_size": 16,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
    },
    "gpt_neox": {"rotary_pct": 0.5},
    "gpt2": {"n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_positions": 64},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 16},
}
DEPTH_FIELD = {"gpt2": "n_layer"}
_NOT_TAKEN = {
    "gpt2": {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
             "head_dim", "max_position_embeddings"},
    "opt": {"intermediate_size", "num_key_value_heads", "head_dim", "initializer_range"},
    "gpt_neox": {"num_key_value_heads", "head_dim"},
    "deepseek_v3": {"head_dim"},
}  # fmt: skip


def make_config(family: str, **changes: Any) -> PreTrainedConfig:
    common = {key: value for key, value in _COMMON.items() if key not in _NOT_TAKEN.get(family, set())}
    config: PreTrainedConfig = CONFIG_MAPPING[family](**{**common, **FAMILIES[family], **changes})
    return config


def make_model(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """Random weights, biases and norms too: what is left at 0 or 1 could be swapped unseen."""
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def layer_config(config: PreTrainedConfig, origins: tuple[int, ...]) -> PreTrainedConfig:
    """Return the configuration of a model whose layers have the maths of the teacher's layers ``origins``."""
    changed = copy.deepcopy(config)
    setattr(changed, DEPTH_FIELD.get(config.model_type, "num_hidden_layers"), len(origins))
    for field in ("layer_types", "no_rope_layers"):
        if values := getattr(config, field, None):
            setattr(changed, field, [values[origin] for origin in origins])
    if hasattr(config, "mlp_only_layers"):
        dense = set(config.mlp_only_layers)
        step = config.decoder_sparse_step
        dense |= {layer for layer in range(LAYERS) if (layer + 1) % step}
        changed.mlp_only_layers = [index for index, origin in enumerate(origins) if origin in dense]
        changed.decoder_sparse_step = 1
    if hasattr(config, "first_k_dense_replace"):
        changed.first_k_dense_replace = sum(origin < config.first_k_dense_replace for origin in origins)
    return changed


def layers_of(model: PreTrainedModel) -> torch.nn.ModuleList:
    body = model.base_model
    body = getattr(body, "decoder", body)
    return body.h if hasattr(body, "h") else body.layers


def save_pair(folder: Path, family: str, *, max_shard_size: str = "50GB", **changes: Any) -> tuple[Path, Path]:
    """Write ``teacher`` and ``student``, with nothing in common but the configuration, and return their folders."""
    config = make_config(family, **changes)
    teacher, student = folder / "teacher", folder / "student"
    make_model(config, 1).save_pretrained(teacher, max_shard_size=max_shard_size)
    make_model(layer_config(config, KEPT), 2).save_pretrained(student, max_shard_size=max_shard_size)
    pruned = sorted(set(range(LAYERS)) - set(KEPT))
    record = {"pruned_teacher_layers": pruned, "copied_teacher_layers": list(KEPT), "teacher": str(teacher)}
    (student / "student_config.json").write_text(json.dumps(record))
    make_tokenizer().save_pretrained(teacher)
    return teacher, student


def make_tokenizer() -> PreTrainedTokenizerFast:
    words = {"<pad>": 0, "<s>": 1, "</s>": 2} | {f"w{number}": number for number in range(3, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def load(folder: Path) -> PreTrainedModel:
    """Open a folder as any user would, in float32; weights that are missing or left over are an error."""
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    problems = {key: value for key, value in report.items() if value}
    assert not problems, problems
    loaded: PreTrainedModel = model
    return loaded.eval()


def text(rows: int = 2, length: int = 12) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(0))
