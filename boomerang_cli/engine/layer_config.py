"""``config.json`` of a model with other layers: every per-layer value follows the layer that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from boomerang_cli.engine.errors import UnsupportedModelError
from boomerang_cli.engine.families import Family

# Top-level lists that may happen to be as long as a model is deep, and have nothing to do with its layers.
_NOT_PER_LAYER = {"architectures", "eos_token_id", "pad_token_id", "bos_token_id", "mlp_only_layers", "suppress_tokens"}


def layer_lists(config: Mapping[str, Any], family: Family, name: str) -> dict[str, list[Any]]:
    """Return the per-layer lists of a whole teacher, explicit or as transformers would derive them.

    Raises:
        UnsupportedModelError: a known list of another length, or an unknown list as long as the teacher is deep.
    """
    depth = family.teacher_depth(config)
    for field, value in config.items():
        if isinstance(value, list) and len(value) == depth and field not in {*family.layer_lists, *_NOT_PER_LAYER}:
            raise UnsupportedModelError(
                f"{name}: config.json has {field}, a list of {depth} values that may be one a layer"
            )
    lists: dict[str, list[Any]] = {}
    for field in family.layer_lists:
        derived = _no_rope_layers(config, depth) if field == "no_rope_layers" else _layer_types(config, depth)
        explicit = config.get(field)
        lists[field] = derived if explicit is None else explicit
        if not isinstance(lists[field], list) or len(lists[field]) != depth:
            raise UnsupportedModelError(f"{name}: {field} in config.json must be a list of {depth} values, one a layer")
    return lists


def is_dense(config: Mapping[str, Any], layer: int) -> bool:
    """Tell whether a layer of a mixture-of-experts schedule has a plain feed-forward."""
    if layer < int(config.get("first_k_dense_replace") or 0):
        return True
    return (
        layer in (config.get("mlp_only_layers") or []) or (layer + 1) % int(config.get("decoder_sparse_step") or 1) != 0
    )


def config_for_layers(
    config: Mapping[str, Any], family: Family, teacher_layers: Sequence[int], name: str
) -> dict[str, Any]:
    """Return the teacher's configuration for a model whose layer i has the maths of ``teacher_layers[i]`` (ascending).

    Every other value stays as it is, in its place. ``teacher_layers`` is ascending, so thresholds such as
    ``max_window_layers`` become the number of layers below them.
    """
    resized = {**config, family.depth_field: len(teacher_layers)}
    for field, values in layer_lists(config, family, name).items():
        resized[field] = [values[layer] for layer in teacher_layers]
    for threshold in ("max_window_layers", "first_k_dense_replace"):
        if isinstance(value := config.get(threshold), int):
            resized[threshold] = sum(layer < value for layer in teacher_layers)
    if "mlp_only_layers" in config or "decoder_sparse_step" in config:
        resized["mlp_only_layers"] = [index for index, layer in enumerate(teacher_layers) if is_dense(config, layer)]
        resized["decoder_sparse_step"] = 1
    if family.prediction_layers_field and config.get(family.prediction_layers_field):
        resized[family.prediction_layers_field] = 0
    resized.pop("auto_map", None)  # code of a model repository is neither copied nor run
    return resized


def _layer_types(config: Mapping[str, Any], depth: int) -> list[str]:
    """Derive ``layer_types`` as the configuration classes of transformers 5.23 do where ``config.json`` has none."""
    model_type = config["model_type"]
    if model_type in ("qwen2", "qwen3"):
        slides = bool(config.get("use_sliding_window")) and config.get("sliding_window", 4096) is not None
        full_below = config.get("max_window_layers", 28)
        return ["sliding_attention" if slides and i >= full_below else "full_attention" for i in range(depth)]
    if model_type == "smollm3":
        slides = bool(config.get("use_sliding_window")) and config.get("sliding_window") is not None
        ropes = config.get("no_rope_layers") or _no_rope_layers(config, depth)
        return ["sliding_attention" if slides and not rope else "full_attention" for rope in ropes]
    most, interval = "sliding_attention", 2  # gemma2, gpt_oss
    if model_type == "gemma3_text":
        interval = int(config.get("sliding_window_pattern") or 6)
    elif model_type == "qwen3_next":
        most, interval = "linear_attention", int(config.get("full_attention_interval") or 4)
    return [most if (i + 1) % interval else "full_attention" for i in range(depth)]


def _no_rope_layers(config: Mapping[str, Any], depth: int) -> list[int]:
    interval = int(config.get("no_rope_layer_interval") or 4)
    return [int((i + 1) % interval != 0) for i in range(depth)]
