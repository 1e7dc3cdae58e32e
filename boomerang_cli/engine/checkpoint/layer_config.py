"""``config.json`` of a model with other layers: every per-layer value follows the layer that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.weights import NAMED_BY_CONFIG
from boomerang_cli.engine.errors import UnsupportedModelError

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
    if layer < whole_number(config, "first_k_dense_replace", 0):
        return True
    only = config.get("mlp_only_layers") or []
    if not isinstance(only, list):
        raise UnsupportedModelError(f"config.json has no usable mlp_only_layers: {only!r}")
    return layer in only or (layer + 1) % whole_number(config, "decoder_sparse_step", 1) != 0


def whole_number(config: Mapping[str, Any], field: str, default: int) -> int:
    """Return a whole number of a configuration; null and 0 mean the default.

    Raises:
        UnsupportedModelError: it is something else.
    """
    value = config.get(field) or default
    if type(value) is not int or value < 0:  # JSON's true is an int to isinstance
        raise UnsupportedModelError(f"config.json has no usable {field}: {value!r}")
    return value


def config_for_layers(
    config: Mapping[str, Any], family: Family, teacher_layers: Sequence[int], name: str
) -> dict[str, Any]:
    """Return the teacher's configuration for a model whose layer i has the maths of ``teacher_layers[i]`` (ascending).

    Every other value stays as it is, in its place. ``teacher_layers`` is ascending, so thresholds such as
    ``max_window_layers`` become the number of layers below them.
    """
    resized = {**config, family.depth_field: len(teacher_layers)}
    if "num_hidden_layers" in config:  # another name of the same value, where a family has its own
        resized["num_hidden_layers"] = len(teacher_layers)
    for field, values in layer_lists(config, family, name).items():
        resized[field] = [values[layer] for layer in teacher_layers]
    for threshold in ("max_window_layers", "first_k_dense_replace"):
        if config.get(threshold) is not None:
            value = whole_number(config, threshold, 0)
            resized[threshold] = sum(layer < value for layer in teacher_layers)
    if "mlp_only_layers" in config or "decoder_sparse_step" in config:
        resized["mlp_only_layers"] = [index for index, layer in enumerate(teacher_layers) if is_dense(config, layer)]
        resized["decoder_sparse_step"] = 1
    if family.prediction_layers_field and config.get(family.prediction_layers_field):
        resized[family.prediction_layers_field] = 0
    resized.pop(NAMED_BY_CONFIG, None)  # a file of the teacher's
    return {key: value for key, value in resized.items() if not _names_code(key, value)}


def _names_code(key: str, value: Any) -> bool:
    """Tell whether a value makes readers fetch code: classes of the repository, or a kernel from the Hub."""
    return key == "auto_map" or (key.endswith("_implementation") and isinstance(value, str) and "/" in value)


def _layer_types(config: Mapping[str, Any], depth: int) -> list[str]:
    """Derive ``layer_types`` as the configuration classes of transformers 5.23 do where ``config.json`` has none."""
    model_type = config["model_type"]
    if model_type in ("qwen2", "qwen3"):
        slides = bool(config.get("use_sliding_window")) and config.get("sliding_window", 4096) is not None
        full_below = whole_number(config, "max_window_layers", 0 if "max_window_layers" in config else 28)
        return ["sliding_attention" if slides and i >= full_below else "full_attention" for i in range(depth)]
    if model_type == "smollm3":
        slides = bool(config.get("use_sliding_window")) and config.get("sliding_window") is not None
        listed = config.get("no_rope_layers")
        ropes = listed if listed and isinstance(listed, list) else _no_rope_layers(config, depth)
        return ["sliding_attention" if slides and not rope else "full_attention" for rope in ropes]
    most, interval = "sliding_attention", 2  # gemma2, gpt_oss
    if model_type == "gemma3_text":
        interval = whole_number(config, "sliding_window_pattern", 6)
    elif model_type == "qwen3_next":
        most, interval = "linear_attention", whole_number(config, "full_attention_interval", 4)
    return [most if (i + 1) % interval else "full_attention" for i in range(depth)]


def _no_rope_layers(config: Mapping[str, Any], depth: int) -> list[int]:
    interval = whole_number(config, "no_rope_layer_interval", 4)
    return [int((i + 1) % interval != 0) for i in range(depth)]
