"""A tiny multimodal model of any type of transformers that reads images and writes text, and an image for it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from tiny_types import VOCABULARY, mixed_lists, small_sizes
from transformers import CONFIG_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, PreTrainedConfig, PreTrainedModel

_TOWER = {
    **dict.fromkeys(("hidden_size", "embed_dim", "d_model", "width", "hidden_dim", "qformer_hidden_size"), 32),
    **dict.fromkeys(("output_channels", "encoder_hidden_size", "cross_attention_hidden_size"), 32),
    **dict.fromkeys(("intermediate_size", "mlp_dim", "ffn_dim"), 48),
    **dict.fromkeys(("num_hidden_layers", "depth", "num_layers", "layers"), 2),
    **dict.fromkeys(("num_attention_heads", "num_heads", "num_key_value_heads", "encoder_attention_heads"), 2),
    **dict.fromkeys(("encoder_layers", "num_global_layers"), 1),
    **dict.fromkeys(("out_hidden_size", "vision_output_dim", "output_dim"), 64),
    "head_dim": 16, "image_size": 16, "patch_size": 8, "num_channels": 3, "in_channels": 3, "projection_dim": 32,
}  # fmt: skip
"""Sizes of what is no text model."""
_TOP = {"hidden_size": 64, "vocab_size": VOCABULARY, "projection_dim": 64, "projector_hidden_size": 32,
        "multimodal_projector_hidden_size": 32, "text_hidden_size": 64}  # fmt: skip
_TOKENS = {
    "image_token_id": 3, "image_token_index": 3, "video_token_id": 4, "video_token_index": 4, "audio_token_id": 5,
    "vision_start_token_id": 6, "vision_end_token_id": 7, "boi_token_index": 8, "eoi_token_index": 9,
    "boi_token_id": 8, "eoi_token_id": 9, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_ROTATED = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}}
_HALF_ROTATED = {
    "rope_parameters": {
        "rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2], "partial_rotary_factor": 0.5,
    }
}  # fmt: skip
_DEEPSTACK = {"deepstack_visual_indexes": [0, 1], "depth": 3, "num_position_embeddings": 16}

_OWN: dict[str, dict[str, dict[str, Any]]] = {
    **{name: {"text_config": _ROTATED} for name in ("qwen2_vl", "qwen2_5_vl", "paddleocr_vl", "glm4v", "glm46v")},
    **{name: {"text_config": _ROTATED, "vision_config": _DEEPSTACK} for name in ("qwen3_vl", "qwen3_vl_moe")},
    **{name: {"text_config": _HALF_ROTATED} for name in ("glm4v_moe", "glm_ocr", "glmga")},
    **{name: {"vision_config": {"num_position_embeddings": 16}} for name in ("qwen3_5", "qwen3_5_moe")},
    "cosmos3_omni": {"text_config": _ROTATED, "vision_config": _DEEPSTACK},
    "cohere_compass": {
        "text_config": {
            "rope_parameters": {
                kind: {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
                for kind in ("full_attention", "sliding_attention")
            },
            "layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention"] * 2,
        },
        "vision_config": {"deepstack_visual_indexes": [0, 1], "depth": 3},
    },
    "muse_spark": {"vision_config": {"num_hidden_layers": 4}},
    "molmo2": {"adapter_config": {"vision_feature_layer": [1, 0]}},
    "qwen2_5_omni_thinker": {"text_config": _ROTATED},
    "qwen3_omni_moe_thinker": {"text_config": _ROTATED, "vision_config": _DEEPSTACK},
    "cosmos3_edge": {"text_config": _ROTATED},
    "hunyuan_vl": {
        "text_config": {
            "head_dim": 16,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2, 2]},
        }
    },
    "ernie4_5_vl_moe": {
        "text_config": {
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [3, 3, 2]},
        }
    },
    "deepseek_ocr2": {"text_config": {"mlp_layer_types": ["dense", *["sparse"] * 7]}},
    "inkling2": {"vision_config": {"text_hidden_size": 64}},
    "nemotron_h_omni": {"vision_config": {"video_temporal_patch_size": 2}},
    "step3p7": {"text_config": {"sliding_window": 4}},
    "glm5_next": {"text_config": {"num_key_value_heads": 4, "index_kpool": 2}},
    "granite4_vision": {"top": {"deepstack_layer_map": [[0, 0], [1, 2]]}},
    "llama4": {
        "vision_config": {"projector_input_dim": 32, "projector_output_dim": 32, "vision_output_dim": 32,
                          "intermediate_size": 128},
    },
    "qwen2_vl": {"text_config": _ROTATED, "vision_config": {"hidden_size": 64}},
    "aria": {"top": {"projector_patch_to_query_dict": {4: 4}}},
    "llava_next": {"top": {"image_grid_pinpoints": [[16, 32], [32, 16], [32, 32]]}},
    "llava_next_video": {"top": {"image_grid_pinpoints": [[16, 32], [32, 16], [32, 32]]}},
    "llava_onevision": {"top": {"image_grid_pinpoints": [[16, 32], [32, 16], [32, 32]]}},
    "gemma4": {
        "vision_config": {"head_dim": 16, "position_embedding_size": 64, "pooling_kernel_size": 2},
        "audio_config": {"subsampling_conv_channels": [16, 8], "output_proj_dims": 32},
    },
    "gemma4_unified": {
        "vision_config": {"patch_size": 4, "pooling_kernel_size": 2, "mm_embed_dim": 32, "mm_posemb_size": 16,
                          "output_proj_dims": 32},
        "audio_config": {"audio_embed_dim": 32},
    },
    "vipllava": {"top": {"vision_feature_layers": [0, 1, 2, 1, 0]}},
    "gemma3": {"top": {"mm_tokens_per_image": 4}},
}  # fmt: skip
"""What a type needs beside that, by section; ``top`` is what stands beside the sections."""
_LARGEST = 8_000_000


def tiny_wrapper_config(model_type: str, text_type: str | None = None, **top: Any) -> PreTrainedConfig:
    """Return a configuration whose text model has ``tiny_types.DEPTH`` layers, and lists that follow no rule.

    Args:
        model_type: also with the text model's: ``llava/mistral``.
        top: fields beside the sections.
    """
    model_type, _, given_type = model_type.partition("/")
    text_type = text_type or given_type
    kind, own = CONFIG_MAPPING[model_type], _OWN.get(model_type, {})
    default = kind()
    section = next(field for field in kind.sub_configs if getattr(default, field) is default.get_text_config())
    parts: dict[str, PreTrainedConfig] = {}
    for field in kind.sub_configs:
        sub = getattr(default, field)
        if sub is None and field in own:
            sub = kind.sub_configs[field]()
        if field == section:
            text = CONFIG_MAPPING[text_type] if text_type else type(sub)
            parts[field] = text(**{**small_sizes(text), **own.get(field, {})})
        elif isinstance(sub, PreTrainedConfig):
            parts[field] = type(sub)(**{**_shrunk(sub, _TOWER), **own.get(field, {})})
    beside = {**_shrunk(default, _TOP), **_among(default, _TOKENS), **own.get("top", {}), **top}

    def put_together(text: PreTrainedConfig) -> PreTrainedConfig:
        sections = {field: part.to_dict() for field, part in {**parts, section: text}.items()}
        config: PreTrainedConfig = kind(**sections, **beside)
        return config

    regular = put_together(parts[section])
    try:
        text = type(parts[section])
        given = {**small_sizes(text), **own.get(section, {})}
        irregular = put_together(text(**{**mixed_lists(parts[section]), **given}))
        _blank(irregular)
    except Exception:  # a class that asks for a rule
        return regular
    return irregular


def _shrunk(config: PreTrainedConfig, sizes: dict[str, int]) -> dict[str, Any]:
    return {key: sizes[key] for key, value in config.to_dict().items() if key in sizes and type(value) is int}


def _among(config: PreTrainedConfig, values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in config.to_dict()}


def _blank(config: PreTrainedConfig) -> PreTrainedModel:
    with torch.device("meta"):
        model: PreTrainedModel = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]._from_config(copy.deepcopy(config))
    return model


def build_problem(model_type: str) -> str | None:
    """Say why a type has no tiny model, if it has none."""
    try:
        model = _blank(tiny_wrapper_config(model_type))
    except StopIteration:
        return "its text model does not stand in a part of config.json of its own"
    except ImportError as error:
        return f"it was not tried: {str(error).strip().partition(' but')[0]}"
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        return f"no small model of it could be built: {reason[:120]}"
    if sum(parameter.numel() for parameter in model.parameters()) > _LARGEST:
        return "a model of it that is small enough to be compared could not be built"
    return None


def tiny_wrapper(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """Random weights, biases and norms too: what is left at 0 or 1 could be swapped unseen."""
    torch.manual_seed(seed)
    model: PreTrainedModel = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]._from_config(
        config, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        with suppress(NotImplementedError):
            model.get_input_embeddings().weight[0] = 0  # see tiny_types.tiny_model
    return model.eval()


def image_batch(model: PreTrainedModel) -> dict[str, torch.Tensor] | None:
    """Return a text with an image in it, in the form that the model takes; None if none is found.

    The image is known to reach the logits: another one gives others.
    """
    accepted = inspect.signature(model.forward).parameters
    for image in _images(model.config):
        if not all(name in accepted for name in image):
            continue
        try:
            batch = _with_text(model, image, accepted)
            other = {**batch, "pixel_values": batch["pixel_values"] + 1}
            with torch.no_grad():
                if not torch.equal(model(**batch).logits, model(**other).logits):
                    return batch
        except Exception:  # whatever a model raises for an image of another form
            continue
    return None


def _with_text(model: PreTrainedModel, image: dict[str, torch.Tensor], accepted: Any) -> dict[str, torch.Tensor]:
    config = model.config
    token = next(
        value for name in ("image_token_id", "image_token_index", "media_placeholder_token_id")
        if isinstance(value := getattr(config, name, None), int)
    )  # fmt: skip
    with torch.no_grad():
        reader = model if hasattr(model, "get_image_features") else model.model
        features: Any = reader.get_image_features(**image)  # type: ignore[operator, union-attr]
    pooled = getattr(features, "pooler_output", features)
    features = features.last_hidden_state if pooled is None else pooled
    parts = features if isinstance(features, (list, tuple)) else [features]
    length = sum(part.numel() // part.shape[-1] for part in parts)
    tokens = torch.tensor([[12, 13, 14, *[token] * length, 20, 21, 22, 23]])
    kinds = {name: (tokens == token).long() for name in ("mm_token_type_ids", "token_type_ids") if name in accepted}
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), **kinds, **image}


def _images(config: PreTrainedConfig) -> Iterator[dict[str, torch.Tensor]]:
    """Yield one image in one form after the other: as patches with a grid, whole, in tiles."""
    generator = torch.Generator().manual_seed(1)

    def pixels(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    for side in (2, 4):
        for frames in (1, 2):
            grid = torch.tensor([[1, side, side]])
            yield {"pixel_values": pixels(side * side, 3 * frames * 64), "image_grid_thw": grid}
            yield {"pixel_values": pixels(1, side * side, 3, 8, 8), "image_grid_thw": grid}
            yield {"pixel_values": pixels(side * side, 3, 8, 8), "image_grid_thw": grid}
            merged = {"image_grid_thw": grid, "image_merge_sizes": torch.tensor([2])}
            yield {"pixel_values": pixels(side * side, 3 * frames * 64), **merged}
    for size in (16, 32):
        yield {"pixel_values": pixels(1, 3, size, size)}
        for tiles in (3, 5):
            sizes = torch.tensor([[size, size * (tiles // 2)]])
            yield {"pixel_values": pixels(1, tiles, 3, size, size), "image_sizes": sizes}
        yield {"pixel_values": pixels(1, 3, size, size), "image_sizes": torch.tensor([[size, size]])}
        yield {"pixel_values": pixels(1, 1, 3, size, size)}
    places = torch.tensor([[[row, column] for row in range(4) for column in range(4)]])
    yield {"pixel_values": pixels(1, 16, 192), "image_position_ids": places}
    mask = torch.ones(1, 16, dtype=torch.long)
    yield {"pixel_values": pixels(1, 16, 192), "spatial_shapes": torch.tensor([[4, 4]]), "pixel_attention_mask": mask}
    yield {"pixel_values": pixels(1, 3, 8, 128), "target_sizes": torch.tensor([[4, 4]])}
