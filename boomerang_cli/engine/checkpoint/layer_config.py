"""``config.json`` of a model with other layers: every per-layer value follows the layer that it belongs to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from boomerang_cli.engine.checkpoint.class_config import completed_config
from boomerang_cli.engine.checkpoint.families import PREDICTION_LAYERS, Family
from boomerang_cli.engine.checkpoint.periods import follow_layers
from boomerang_cli.engine.checkpoint.weights import NAMED_BY_CONFIG, STUDENT_PART
from boomerang_cli.engine.checkpoint.wrappers import Wrapper
from boomerang_cli.engine.errors import SelectionError, UnsupportedModelError

# Top-level lists that may happen to be as long as a model is deep, and have nothing to do with its layers.
_NOT_PER_LAYER = {"architectures", "eos_token_id", "pad_token_id", "bos_token_id", "mlp_only_layers", "suppress_tokens"}

_COUNTED = ("max_window_layers", "first_k_dense_replace")
"""Counted wherever they stand: where a list says the same, readers of today pass over them, older ones do not."""

_PATTERNS = ("hybrid_override_pattern",)
_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers")
"""Other names of the depth, which older configurations hold beside the family's own."""
_LISTED = ("moe_topk", "num_shared_expert", "moe_intermediate_size", "attn_type_list")
"""Of any family: where they are lists of the depth's length (Hunyuan, MiniMax), they hold one value a layer."""
_PER_LAYER = "per_layer_config"
"""Other values for single layers, by their numbers."""


def layer_values(config: Mapping[str, Any], family: Family, name: str) -> dict[str, list[Any]]:
    """Return what the fields of a whole teacher say of each layer: one value a layer, by field.

    A list gives its values; a list of layers' numbers and a threshold tell of each layer whether it is among them.

    Raises:
        UnsupportedModelError: a value that is not what its field must hold.
    """
    depth = family.teacher_depth(config)
    values = layer_lists(config, family, name)
    for field, first in family.numbered:
        listed = _given(config, family, field, name) or []
        if not isinstance(listed, list) or any(type(number) is not int for number in listed):
            raise UnsupportedModelError(f"config.json has no usable {field}: {listed!r}")
        values[field] = [layer + first in listed for layer in range(depth)]
    for field, side in family.thresholds:
        limit = whole_number({field: _given(config, family, field, name)}, field, 0)
        values[field] = [layer < limit if side == "below" else layer >= depth - limit for layer in range(depth)]
    if family.sparse_steps:
        steps = {**family.text_config(config), "mlp_only_layers": _given(config, family, "mlp_only_layers", name)}
        values["mlp_only_layers"] = [is_dense(steps, layer) for layer in range(depth)]
    if overrides := _overrides(family.text_config(config)):
        values[_PER_LAYER] = [overrides.get(layer) for layer in range(depth)]
    return values


def layer_lists(config: Mapping[str, Any], family: Family, name: str) -> dict[str, list[Any]]:
    """Return the per-layer lists of a whole teacher, explicit or as transformers would derive them.

    Raises:
        UnsupportedModelError: a known list of another length, or an unknown list as long as the teacher is deep.
    """
    depth = family.teacher_depth(config)
    for field, value in _unknown_lists(config, family).items():
        if len(value) == depth and not _old(config, family, field, name):
            raise UnsupportedModelError(
                f"{name}: config.json has {field}, a list of {depth} values that may be one a layer"
            )
        if len(value) != depth and "layer" in field and value and all(type(each) is int for each in value):
            raise UnsupportedModelError(f"{name}: config.json has {field}, a list that may hold layers' numbers")
    lists: dict[str, list[Any]] = {}
    for field in (*family.layer_lists, *_listed(family.text_config(config), depth)):
        explicit = family.text_config(config).get(field)
        lists[field] = _absent_list(config, family, field, name) if explicit is None else explicit
        if field in family.repeated and isinstance(lists[field], list) and 0 < len(lists[field]) < depth:
            lists[field] = (lists[field] * depth)[:depth]
        if not isinstance(lists[field], list) or len(lists[field]) != depth:
            raise UnsupportedModelError(f"{name}: {field} in config.json must be a list of {depth} values, one a layer")
    return lists


def is_dense(config: Mapping[str, Any], layer: int) -> bool:
    """Tell whether a layer of a mixture-of-experts schedule has a plain feed-forward."""
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
    resized = _resized_text(config, family, teacher_layers, name)
    if family.wrapper:
        _check_reached(config, family.wrapper, teacher_layers, name)
        resized = family.wrapper.with_text_config(config, _without_code(resized))
    for of_teacher in (NAMED_BY_CONFIG, STUDENT_PART):  # its file of weights, its own layers' origin
        resized.pop(of_teacher, None)
    return _without_code(resized)


def _resized_text(
    config: Mapping[str, Any], family: Family, teacher_layers: Sequence[int], name: str
) -> dict[str, Any]:
    depth, text = family.teacher_depth(config), family.text_config(config)
    resized = {**text, family.depth_field: len(teacher_layers)}
    resized |= {field: len(teacher_layers) for field in _DEPTHS if text.get(field) == depth}
    for threshold in _COUNTED:
        if text.get(threshold) is not None:
            value = whole_number(text, threshold, 0)
            resized[threshold] = sum(layer < value for layer in teacher_layers)
    values = layer_values(config, family, name)
    for field in (*family.layer_lists, *_listed(text, depth)):
        resized[field] = [values[field][layer] for layer in teacher_layers]
    for field, listed in _unknown_lists(config, family).items():
        if len(listed) == depth:
            resized[field] = [listed[layer] for layer in teacher_layers]
    _cut_patterns(resized, text, teacher_layers, depth)
    follow_layers(resized, text, values, teacher_layers)
    for field in family.depth_scaled:
        if (scale := _given(config, family, field, name)) is not None:
            resized[field] = scale * math.sqrt(len(teacher_layers) / depth)
    if family.last_apart and teacher_layers[-1] != depth - 1:
        raise UnsupportedModelError(
            f"{name}: the last layer of {config['model_type']} models is another: keep {depth - 1}"
        )
    if family.ends_in and (last := resized["layer_types"][-1]) != family.ends_in:
        raise UnsupportedModelError(
            f"{name}: {config['model_type']} models end in a layer of {family.ends_in}, and layer {teacher_layers[-1]} "
            f"is one of {last}: keep the last layer"
        )
    for field, first in family.numbered:
        if _given(config, family, field, name) is not None:
            resized[field] = [index + first for index, layer in enumerate(teacher_layers) if values[field][layer]]
    for field, _ in family.thresholds:
        resized[field] = sum(values[field][layer] for layer in teacher_layers)
    if family.sparse_steps or "mlp_only_layers" in text or "decoder_sparse_step" in text:
        dense = values.get("mlp_only_layers") or [is_dense(text, layer) for layer in range(depth)]
        resized["mlp_only_layers"] = [index for index, layer in enumerate(teacher_layers) if dense[layer]]
        resized["decoder_sparse_step"] = 1
    if text.get(_PER_LAYER):
        overrides = _overrides(text)
        resized[_PER_LAYER] = {str(i): overrides[layer] for i, layer in enumerate(teacher_layers) if layer in overrides}
    resized |= {field: 0 for field in PREDICTION_LAYERS if text.get(field)}
    return resized


def _check_reached(config: Mapping[str, Any], wrapper: Wrapper, teacher_layers: Sequence[int], name: str) -> None:
    """Refuse to move layers that image features are added behind by their numbers.

    Raises:
        SelectionError: says which layers must be kept.
    """
    reached = wrapper.reached_layers(config, name)
    if tuple(teacher_layers[:reached]) != tuple(range(reached)):
        first = ",".join(map(str, range(reached)))
        raise SelectionError(
            f"{name}: {config['model_type']} adds image features behind layers {first} by their numbers, and kept are "
            f"{','.join(map(str, teacher_layers))}: begin with {first} in --keep, or give --keep-first {reached}"
        )


def _cut_patterns(resized: dict[str, Any], config: Mapping[str, Any], layers: Sequence[int], depth: int) -> None:
    """Cut what spells the layers' kinds beside a list, one letter a layer: readers that know only that go by it."""
    for field in _PATTERNS:
        pattern = config.get(field)
        if isinstance(pattern, str) and len(pattern) == depth:
            resized[field] = "".join(pattern[layer] for layer in layers)


def _without_code(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not _names_code(key, value)}


def _names_code(key: str, value: Any) -> bool:
    """Tell whether a value makes readers fetch code: classes of the repository, or a kernel from the Hub."""
    return key == "auto_map" or (key.endswith("_implementation") and isinstance(value, str) and "/" in value)


def _unknown_lists(config: Mapping[str, Any], family: Family) -> dict[str, list[Any]]:
    known = {*family.layer_lists, *dict(family.numbered), *_NOT_PER_LAYER}
    text = family.text_config(config)
    known |= {*_listed(text, family.teacher_depth(config))}
    return {field: value for field, value in text.items() if isinstance(value, list) and field not in known}


def _listed(config: Mapping[str, Any], depth: int) -> list[str]:
    return [field for field in _LISTED if isinstance(config.get(field), list) and len(config[field]) == depth]


def _old(config: Mapping[str, Any], family: Family, field: str, name: str) -> bool:
    """Tell whether a field is an older name for what the class holds in the known lists: it takes the value out."""
    try:
        return field not in family.text_config(completed_config(config, name))
    except UnsupportedModelError:
        return False


def _given(config: Mapping[str, Any], family: Family, field: str, name: str) -> Any:
    """Return a field's value, the class's own where ``config.json`` has none."""
    value = family.text_config(config).get(field)
    return family.text_config(completed_config(config, name)).get(field) if value is None else value


def _overrides(config: Mapping[str, Any]) -> dict[int, Any]:
    """Return ``per_layer_config`` by the layers' numbers.

    Raises:
        UnsupportedModelError: it is keyed by something else.
    """
    given = config.get(_PER_LAYER) or {}
    if not isinstance(given, dict) or not all(key.isascii() and key.isdigit() for key in given):
        raise UnsupportedModelError(f"config.json has no usable {_PER_LAYER}: its keys must be layers' numbers")
    return {int(key): value for key, value in given.items()}


def _absent_list(config: Mapping[str, Any], family: Family, field: str, name: str) -> Any:
    """Return a list that ``config.json`` leaves to the class: by a rule known here, else the class is asked."""
    depth, text = family.teacher_depth(config), family.text_config(config)
    if field == "no_rope_layers" and text.get("model_type") == "smollm3":
        return _no_rope_layers(text, depth)
    if field == "layer_types" and (types := _layer_types(text, depth)) is not None:
        return types
    return family.text_config(completed_config(config, name)).get(field)


def _layer_types(config: Mapping[str, Any], depth: int) -> list[str] | None:
    """Derive ``layer_types`` as some configuration classes of transformers 5.23 do; None for one not known here."""
    model_type = config.get("model_type")
    if model_type in ("qwen2", "qwen3"):
        slides = bool(config.get("use_sliding_window")) and config.get("sliding_window", 4096) is not None
        full_below = whole_number(config, "max_window_layers", 0 if "max_window_layers" in config else 28)
        return ["sliding_attention" if slides and i >= full_below else "full_attention" for i in range(depth)]
    if model_type == "smollm3":
        slides = bool(config.get("use_sliding_window")) and config.get("sliding_window") is not None
        listed = config.get("no_rope_layers")
        ropes = listed if listed and isinstance(listed, list) else _no_rope_layers(config, depth)
        return ["sliding_attention" if slides and not rope else "full_attention" for rope in ropes]
    if model_type in ("gemma2", "gpt_oss"):
        most, interval = "sliding_attention", 2
    elif model_type == "gemma3_text":
        most, interval = "sliding_attention", whole_number(config, "sliding_window_pattern", 6)
    elif model_type == "olmo3":
        most, interval = "sliding_attention", 4
    elif model_type == "qwen3_next":
        most, interval = "linear_attention", whole_number(config, "full_attention_interval", 4)
    else:
        return None
    return [most if (i + 1) % interval else "full_attention" for i in range(depth)]


def _no_rope_layers(config: Mapping[str, Any], depth: int) -> list[int]:
    interval = whole_number(config, "no_rope_layer_interval", 4)
    return [int((i + 1) % interval != 0) for i in range(depth)]
