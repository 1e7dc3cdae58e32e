"""A tiny model of any causal type of transformers: sizes shrunk by their fields' names, lists that follow no rule."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
import torch
import transformers
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig, PreTrainedModel

DEPTH = 8
VOCABULARY = 128

_HIDDEN, _HEADS, _HEAD = 64, 4, 16
_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_blocks", "decoder_layers", "encoder_layers")
_SIZES: tuple[tuple[int, tuple[str, ...]], ...] = (
    (VOCABULARY, ("vocab_size", "decoder_vocab_size", "vocab_size_per_layer_input", "unpadded_vocab_size")),
    (_HIDDEN, (
        "hidden_size", "n_embd", "d_model", "emb_dim", "embedding_dim", "embedding_size", "input_embedding_size",
        "attention_hidden_size", "lru_width", "word_embed_proj_dim", "output_embedding_size",
    )),
    (96, (
        "intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "dff", "ffn_hidden_size", "dim_ff",
        "dense_intermediate_size", "intermediate_size_mlp", "d_inner", "feed_forward_size",
    )),
    (48, (
        "moe_intermediate_size", "expert_ffn_hidden_size", "shared_expert_intermediate_size",
        "shared_intermediate_size", "shared_experts_intermediate_size", "moe_shared_expert_intermediate_size",
    )),
    (DEPTH, _DEPTHS),
    (_HEADS, (
        "num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads", "encoder_attention_heads",
        "attention_heads", "swa_num_attention_heads", "linear_num_heads", "linear_num_value_heads", "mamba_num_heads",
        "num_decoder_attention_heads", "num_encoder_attention_heads", "index_n_heads",
    )),
    (2, (
        "num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads", "linear_num_key_heads",
        "num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k",
    )),
    (_HEAD, (
        "head_dim", "swa_head_dim", "linear_head_dim", "linear_key_head_dim", "linear_value_head_dim", "v_head_dim",
        "qk_nope_head_dim", "query_pre_attn_scalar", "index_head_dim", "d_head", "attention_head_size", "kv_channels",
        "q_lora_rank", "kv_lora_rank", "o_lora_rank", "mamba_head_dim", "mamba_d_head", "mamba_headdim", "state_size",
        "ssm_state_size", "mamba_d_state", "time_step_rank", "mamba_dt_rank", "router_hidden_size", "hc_lowrank",
        "rotary_dim", "dim_head", "gated_norm_rank", "rel_extent",
    )),
    (8, ("qk_rope_head_dim", "chunk_size", "mamba_chunk_size", "mamba_n_heads", "d_rel", "max_inference_chunksize")),
    (4, (
        "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "sliding_window", "window_size",
        "sliding_window_size", "attention_window_size", "local_attention", "index_topk", "index_block_size",
        "attention_chunk_size", "keep_window_size",
    )),
    (3, ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")),
    (1, ("n_group", "num_expert_group", "topk_group", "n_groups", "zero_expert_num")),
    (64, (
        "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_target_positions", "context_length",
        "max_source_positions", "model_max_length", "original_max_position_embeddings",
    )),
)  # fmt: skip
_SIZE_OF = {field: size for size, fields in _SIZES for field in fields}

_LATENT = {"head_dim": 8, "num_key_value_heads": 4}
"""Of latent attention: what rotates is a part of each head, and every head has keys of its own."""
_OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        (
            "axk1",
            "axk2",
            "bailing_hybrid",
            "deepseek_v3",
            "deepseek_v32",
            "glm4_moe_lite",
            "kimi_linear",
            "longcat_flash",
            "minicpm3",
            "youtu",
        ),
        _LATENT,
    ),
    "bamba": {"attn_layer_indices": [1, 4, 6], "mamba_n_heads": 8, "mamba_d_head": 16},
    "deepseek_v2": {**_LATENT, "num_experts_per_tok": 2},
    "git": {
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
        }
    },
    "bigbird_pegasus": {"tie_word_embeddings": False},
    "cpmant": {"tie_word_embeddings": False},
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_ssm": 128},
    "granitemoehybrid": {
        "mamba_n_heads": 8,
        "mamba_d_head": 16,
        "layer_types": ["linear_attention", "full_attention", "full_attention", "linear_attention"] * 2,
    },
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "dots3_note_text": {
        **_LATENT,
        "num_experts_per_tok": 2,
        "layer_types": ["sliding_attention", "indexed_attention", "indexed_attention", "sliding_attention"] * 2,
        "per_layer_config": {
            number: {
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "q_lora_rank": 16,
                "kv_lora_rank": 16,
                "head_dim": 24,
                "qk_nope_head_dim": 16,
                "v_head_dim": 16,
                "qk_rope_head_dim": 8,
            }
            for number in (0, 3, 4, 7)
        },
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 4]]},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "lfm2": {"full_attn_idxs": [1, 2, 4, 7]},
    "llama4_text": {"moe_layers": [1, 2, 5, 7]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "full_attention", "conv"] * 2},
    "ministral": {"head_dim": 16},
    "nemotron": {"num_key_value_heads": 2},
    "recurrent_gemma": {"block_types": ["recurrent", "attention", "recurrent", "recurrent", "attention"]},
    "reformer": {"is_decoder": True, "axial_pos_embds_dim": [16, 48], "axial_pos_shape": [8, 8]},
    "roc_bert": {"pronunciation_embed_dim": 16, "shape_embed_dim": 16, "shape_vocab_size": 64},
    "xlstm": {"num_heads": 4, "qk_dim_factor": 1.0, "v_dim_factor": 1.0},
    "gemma4_text": {"hidden_size_per_layer_input": 0},
    "glm_moe_dsa": {**_LATENT, "indexer_types": ["full"] * DEPTH},
    "hy_v4": {"indexer_types": ["full"] * DEPTH},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"] * (DEPTH // 2), "hybrid_layer_ids": [1, 3, 5, 7]},
    "nemotron_h": {
        "layers_block_type": [
            "linear_attention",
            "full_attention",
            "moe",
            "mlp",
            "linear_attention",
            "full_attention",
            "moe",
            "mlp",
        ],
    },
    "qwen4_exp_text": {
        "num_key_value_heads": 2,
        "head_dim": 16,
        "hc_lowrank": 16,
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 8,
        "indexer_compress_ratio": 4,
        "ple_embed_dim": 16,
    },
    "phi4_multimodal": {
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
            "crop_size": 28,
            "image_token_id": 3,
        },
        "audio_config": {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_blocks": 2,
            "num_attention_heads": 2,
            "ext_pw_out_channel": 32,
            "depthwise_separable_out_channel": 32,
            "nemo_conv_channels": 32,
            "audio_token_id": 4,
        },
    },
    "xmod": {"default_language": "en_XX"},
    "zaya": {"num_experts_per_tok": 1},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8},
        "ffn_config": {"ffn_hidden_size": 96, "moe_num_experts": 4, "moe_top_k": 2},
    },
}
"""What a type needs beside that."""

_PATTERNS = ((0, 1, 1, 0, 1, 0, 0, 1), (1, 0, 1, 1, 0, 0, 1, 0), (0, 0, 1, 1, 1, 0, 1, 0))
"""Which of the kinds of layers each layer is, a pattern for each list; no kept set loses a kind."""
_LARGEST = 5_000_000


def tiny_config(model_type: str, *, absent: Collection[str] = (), **changes: Any) -> PreTrainedConfig:
    """Return a configuration of :data:`DEPTH` layers.

    Its per-layer lists follow no rule, where the class allows it.

    Args:
        absent: fields that are left to the class, and with them all lists.
    """
    if model_type not in CONFIG_MAPPING:
        pytest.skip(f"transformers {transformers.__version__} has no {model_type}")
    kind = CONFIG_MAPPING[model_type]
    given = {**small_sizes(kind), **changes}
    given = {field: value for field, value in given.items() if field not in absent}
    config: PreTrainedConfig = kind(**given)
    if absent:
        return config
    try:
        irregular: PreTrainedConfig = kind(**{**mixed_lists(config), **given})
        with torch.device("meta"):
            MODEL_FOR_CAUSAL_LM_MAPPING[kind]._from_config(irregular)
    except Exception:  # a class that asks for a rule
        return config
    return irregular


def small_sizes(kind: type[PreTrainedConfig]) -> dict[str, Any]:
    """Return what makes a model of a class small."""
    sizes = {
        field: _SIZE_OF[field]
        for field, value in kind().to_dict().items()
        if field in _SIZE_OF and type(value) is int and (value > 0 or field == "first_k_dense_replace")
    }
    return {**sizes, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **_OWN.get(kind.model_type, {})}


def mixed_lists(config: PreTrainedConfig) -> dict[str, Any]:
    """Return the per-layer lists of a configuration, with their values in an order that follows no rule."""
    defaults, mixed = type(config)().to_dict(), {}
    for number, (field, values) in enumerate(_per_layer(config).items()):
        seen = {str(value): value for value in [*(defaults.get(field) or ()), *values]}
        kinds = [value for _, value in sorted(seen.items())]
        order = range(DEPTH) if len(kinds) > 2 else _PATTERNS[number % len(_PATTERNS)]
        mixed[field] = [kinds[each % len(kinds)] for each in order]
    return mixed


def build_problem(model_type: str) -> str | None:
    """Say why a type has no tiny model, if it has none."""
    try:
        config = tiny_config(model_type)
        with torch.device("meta"):
            model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]._from_config(config)
    except Exception as error:
        if CONFIG_MAPPING[model_type].sub_configs:
            return "its text model stands within another"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        return f"no small model of it could be built: {reason[:120]}"
    if sum(parameter.numel() for parameter in model.parameters()) > _LARGEST:
        within = "its text model stands within another"
        return within if config.sub_configs else "a model of it that is small enough to be compared could not be built"
    return None


def _per_layer(config: PreTrainedConfig) -> dict[str, list[Any]]:
    return {
        field: value
        for field, value in config.to_dict().items()
        if isinstance(value, list)
        and len(value) == DEPTH
        and field not in ("architectures", "full_attn_idxs", "moe_layers")
        and any(word in field for word in ("layer", "type", "theta", "rope"))
    }


def tiny_model(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """Random weights, biases and norms too: what is left at 0 or 1 could be swapped unseen."""
    torch.manual_seed(seed)
    model: PreTrainedModel = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]._from_config(
        config, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        # That of the padding token is 0 in trained models; some classes see to it whenever they load one.
        model.get_input_embeddings().weight[0] = 0
    return model.eval()
