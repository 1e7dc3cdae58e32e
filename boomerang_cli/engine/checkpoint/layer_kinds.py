"""Which layers of a teacher are of one kind: attention, positions and experts as ``config.json`` schedules them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.layer_config import layer_values
from boomerang_cli.engine.errors import SelectionError

_WITHOUT_KEYS = {"linear_attention", "mamba", "conv", "moe", "mlp", "recurrent"}
"""Layer types that keep a state, or nothing, where attention keeps keys and values, one a position."""
_TYPES = ("layer_types", "layers_block_type", "block_types")
_ATTENTION_NUMBERS = ("attn_layer_indices",)
_NEEDS_BOTH = {"olmo_hybrid"}
"""Types whose configuration transformers refuses without a layer of linear attention, too."""

_DENSE = ("mlp_only_layers", "first_k_dense_replace")
"""What says of layers that they route to no experts."""


def layer_kinds(config: Mapping[str, Any], family: Family, name: str) -> tuple[str, ...]:
    """Return the kind of each layer of a whole teacher: what its values of the per-layer schedules are.

    Only schedules that differ from layer to layer are told; where none does, every kind is the empty text.

    Raises:
        UnsupportedModelError: a schedule that cannot be read.
    """
    told: dict[tuple[int, ...], list[str]] = {}
    for field, values in _schedules(config, family, name).items():
        alike = tuple(values.index(value) for value in values)
        if any(alike) and alike not in told:  # a field may say again what another does
            told[alike] = [value if isinstance(value, str) else f"{field}={value}" for value in values]
    return tuple(" ".join(values[layer] for values in told.values()) for layer in range(family.teacher_depth(config)))


def _schedules(config: Mapping[str, Any], family: Family, name: str) -> dict[str, list[Any]]:
    """Return what makes layers differ, by field, one value a layer."""
    values = _attention_named(layer_values(config, family, name))
    dense = [values.pop(field) for field in _DENSE if field in values]
    mlp = {"mlp": ["dense" if any(each) else "sparse" for each in zip(*dense, strict=True)]} if dense else {}
    return {**values, **mlp}


def check_attention_kept(config: Mapping[str, Any], family: Family, kept: Sequence[int], name: str) -> None:
    """Check that a student of a hybrid teacher keeps a layer with attention.

    transformers counts the positions seen by the keys of the first layer with attention: a model of linear attention
    alone, of a class that mixes it with attention, runs forwards and fails in ``generate`` [transformers 5.23].

    Raises:
        SelectionError: the teacher has layers with attention, and none of them is kept.
    """
    types = _mixing(config, family, name)
    attending = [layer for layer, kind in enumerate(types) if kind not in _WITHOUT_KEYS]
    _check_one_kept(types, attending, kept, name, "transformers cannot generate")
    if config.get("model_type") in _NEEDS_BOTH:
        others = [layer for layer, kind in enumerate(types) if kind in _WITHOUT_KEYS]
        _check_one_kept(types, others, kept, name, f"{config['model_type']} models cannot be made")


def _mixing(config: Mapping[str, Any], family: Family, name: str) -> list[str]:
    """Return how each layer mixes positions, by the field that says so; nothing where none does."""
    values = _attention_named(layer_values(config, family, name))
    return next((values[field] for field in (*_TYPES, *_ATTENTION_NUMBERS) if field in values), [])


def _attention_named(values: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Return what fields say of each layer, with a type's name where a list of numbers says which have attention."""
    numbered = {field: values[field] for field in _ATTENTION_NUMBERS if field in values}
    return {**values, **{field: ["attention" if each else "mamba" for each in own] for field, own in numbered.items()}}


def _check_one_kept(types: Sequence[str], needed: Sequence[int], kept: Sequence[int], name: str, reason: str) -> None:
    if needed and not set(needed) & set(kept):
        raise SelectionError(
            f"{name}: kept layers {','.join(map(str, kept))} hold no {types[needed[0]]} layer, without which "
            f"{reason}: give one of {','.join(map(str, needed))} in --keep"
        )
