"""Which fields of a configuration speak of single layers: found by changing them and seeing what the class builds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from boomerang_cli.engine.checkpoint.derivation.blank_model import Blueprint, layers_of, signatures
from boomerang_cli.engine.checkpoint.derivation.refusal import NotDerivableError

_NOT_LISTS = {
    "architectures", "eos_token_id", "bos_token_id", "pad_token_id", "suppress_tokens", "begin_suppress_tokens",

}  # fmt: skip
_PER_LAYER = re.compile(r"layer|type|pattern|theta|sparsity|per_")
_COUNTS = re.compile(r"layer|first_k|dense|period|offset|step|pattern|every|interval|freq|group_size")
_NUMBERS = re.compile(r"layer|idx|indices|ids")


@dataclass
class LayerFields:
    """Fields that speak of layers (see ``families.Family``).

    Attributes:
        patterns: fields that some layers depend on in a way of their own, such as a period.
    """

    depth_field: str
    depth: int
    lists: dict[str, list[Any]] = field(default_factory=dict)
    numbered: dict[str, int] = field(default_factory=dict)
    thresholds: dict[str, str] = field(default_factory=dict)
    patterns: list[str] = field(default_factory=list)


def find_stack(blueprint: Blueprint, config: Mapping[str, Any], stacks: Mapping[str, int]) -> tuple[str, str]:
    """Return the prefix of the layers, and the field that makes them one more.

    Args:
        config: that of the text model, completed by its class.
        stacks: the numbered runs of tensors, by prefix, with their lengths.

    Raises:
        NotDerivableError: none, or several that may be it.
    """
    found = []
    for name, value in config.items():
        if type(value) is int and value in stacks.values() and re.search("layer|block", name):
            try:
                longer = blueprint.build(_longer(config, name))
            except Exception:  # a field that only happens to have the value
                continue
            lengths = {prefix: len(layers_of(longer, prefix) or ()) for prefix in stacks}
            grown = [prefix for prefix, length in lengths.items() if length != stacks[prefix]]
            if len(grown) == 1 and lengths[grown[0]] == value + 1 == stacks[grown[0]] + 1:
                found.append((grown[0], name))
    if len({prefix for prefix, _ in found}) != 1:
        how_many = "several lists" if found else "no list"
        raise NotDerivableError(f"{how_many} of modules in its class is as long as a field of config.json says")
    return min(found, key=lambda each: ("layer" not in each[1], each[1] != "num_hidden_layers"))


def find_layer_fields(
    blueprint: Blueprint, config: Mapping[str, Any], stack: str, depth_field: str, model: Any
) -> LayerFields:
    """Find what else of a completed configuration speaks of layers.

    Raises:
        NotDerivableError: a field that may, in a way that is not known.
    """
    fields = LayerFields(depth_field, config[depth_field])
    _find_lists(blueprint, config, fields)
    built = signatures(model, stack)
    for name, value in config.items():
        if name in fields.lists or name in _NOT_LISTS or name == depth_field:
            continue
        if _may_number_layers(value, fields.depth):
            _probe_numbers(blueprint, config, name, value, fields, stack, built)
        elif type(value) is int and 0 < value <= fields.depth + 1 and _COUNTS.search(name):
            _probe_count(blueprint, config, name, value, fields, stack, built)
    return fields


def _find_lists(blueprint: Blueprint, config: Mapping[str, Any], fields: LayerFields) -> None:
    for name, value in config.items():
        if not isinstance(value, list) or len(value) != fields.depth or name in _NOT_LISTS:
            continue
        if all(type(each) is int for each in value) and sorted(value) == list(range(fields.depth)):
            continue  # every layer's number
        without = {key: each for key, each in _longer(config, fields.depth_field).items() if key != name}
        try:
            again = blueprint.completed(without).get(name)
        except Exception:
            again = None
        if (isinstance(again, list) and len(again) == fields.depth + 1) or _PER_LAYER.search(name):
            fields.lists[name] = value
        else:
            raise NotDerivableError(f"its {name} is a list of {fields.depth} values that may be one a layer")


def _may_number_layers(value: Any, depth: int) -> bool:
    if not isinstance(value, list) or not value or not all(type(each) is int for each in value):
        return False
    return len(set(value)) == len(value) and min(value) >= 0 and max(value) <= depth


def _probe_numbers(
    blueprint: Blueprint,
    config: Mapping[str, Any],
    name: str,
    value: list[int],
    fields: LayerFields,
    stack: str,
    built: list[Any],
) -> None:
    """Leave out one number at a time: each changes its own layer, counted from 0 or from 1."""
    hits = [
        (_changed(blueprint, config, name, [other for other in value if other != each], fields, stack, built), each)
        for each in value
    ]
    for first in (0, 1):
        if all(layers == {each - first} for layers, each in hits):
            fields.numbered[name] = first
            return
    if any(layers for layers, _ in hits):
        raise NotDerivableError(f"its {name} numbers layers in a way of its own")
    if _NUMBERS.search(name):
        fields.numbered[name] = 0


def _probe_count(
    blueprint: Blueprint,
    config: Mapping[str, Any],
    name: str,
    value: int,
    fields: LayerFields,
    stack: str,
    built: list[Any],
) -> None:
    """Count one and two less: a threshold moves by one layer and by two, from below or from above."""
    one = _changed(blueprint, config, name, value - 1, fields, stack, built)
    two = _changed(blueprint, config, name, value - 2, fields, stack, built) if value > 1 else None
    if one == {value - 1} and two in (None, {value - 1, value - 2}):
        fields.thresholds[name] = "below"
    elif one == {fields.depth - value} and two in (None, {fields.depth - value, fields.depth - value + 1}):
        fields.thresholds[name] = "above"
    elif one and len(one) < fields.depth:
        fields.patterns.append(name)


def _changed(
    blueprint: Blueprint,
    config: Mapping[str, Any],
    name: str,
    value: Any,
    fields: LayerFields,
    stack: str,
    built: list[Any],
) -> set[int] | None:
    """Return which layers another value changes; None if transformers refuses it."""
    changed = {**config, name: value}
    try:
        ours = signatures(blueprint.build(changed), stack)
        says = blueprint.completed(changed)
    except Exception:
        return None
    return {
        layer
        for layer in range(fields.depth)
        if layer >= len(ours)
        or ours[layer] != built[layer]
        or any(says.get(each) and says[each][layer] != values[layer] for each, values in fields.lists.items())
    }


def _longer(config: Mapping[str, Any], depth_field: str) -> dict[str, Any]:
    """Return the configuration of one layer more, which is like the last."""
    depth = config[depth_field]
    longer = {**config, depth_field: depth + 1}
    for name, value in config.items():
        if isinstance(value, list) and len(value) == depth and name not in _NOT_LISTS:
            longer[name] = value + value[-1:]
    overrides = config.get("per_layer_config")
    if isinstance(overrides, dict) and str(depth - 1) in overrides:
        longer["per_layer_config"] = {**overrides, str(depth): overrides[str(depth - 1)]}
    return longer
