"""Fields of ``config.json`` that tell layers' kinds by a period: older readers go by them, newer ones by a list.

A teacher's period seldom holds for some of its layers. transformers of today passes over it where the list stands;
others read it alone (``readers.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from boomerang_cli.engine.checkpoint.readers import READERS, marks

_PERIODS = (
    ("sliding_window_pattern", "layer_types", "full_attention"),
    ("_sliding_window_pattern", "layer_types", "full_attention"),
    ("full_attention_interval", "layer_types", "full_attention"),
    ("global_attn_every_n_layers", "layer_types", "full_attention"),
    ("layer_group_size", "layer_types", "full_attention"),
    ("no_rope_layer_interval", "no_rope_layers", 0),
    ("interleave_moe_layer_step", "moe_layers", True),
)
"""A field, the list that says the same of each layer, and the kind that comes once a period."""
_NEVER_NULL = {"layer_group_size", "no_rope_layer_interval", "interleave_moe_layer_step"}
"""transformers 5.23 refuses null there; it and 4.57 take it in the others where the list stands."""
_NEVER_NULL_IN = {"cohere2_moe"}
"""Types of which it refuses null in every one of them."""
_HELD_BY_LAYERS = {"exaone4", "exaone4_5_text", "exaone_moe"}
"""Their layers hold the field itself, unused: changed, it would make of each another layer than the teacher's."""


def follow_layers(
    resized: dict[str, Any], config: Mapping[str, Any], lists: Mapping[str, list[Any]], layers: Sequence[int]
) -> None:
    """Make the periods of a resized configuration say what its lists say; nothing else in it changes.

    A period that still holds stays. Else the field gets the one that holds now; where none does, it becomes null: who
    reads it alone fails on that, and would be wrong by its own default without it. So the field is written, too, where
    it was absent and some reader's default is wrong. Where transformers refuses null, it goes.

    Args:
        config: the teacher's.
        lists: its lists, one value a layer.
        layers: the teacher's layers that are the model's.
    """
    if config.get("model_type") in _HELD_BY_LAYERS:
        return
    readers = READERS.get(str(config.get("model_type")), ())
    defaults = {reader.period_field: reader.period for reader in readers}
    for field, listed, marked in _PERIODS:
        period = config.get(field, defaults.get(field))
        if type(period) is int and period > 0 and listed in lists:
            marked_layers = [kind == marked for kind in lists[listed]]
            begins = marked_layers == marks(len(marked_layers), period, begins=True)  # as ModernBERT's; else they end
            found = _holding([marked_layers[layer] for layer in layers], period, begins=begins)
            if found is None and (field in _NEVER_NULL or config.get("model_type") in _NEVER_NULL_IN):
                resized.pop(field, None)
            elif found != period or field in config:
                resized[field] = found


def _holding(marked: Sequence[bool], period: int, *, begins: bool) -> int | None:
    """Return a period that layers are marked by: the present one if it holds, else the shortest, else None."""
    candidates = (period, *range(1, len(marked) + 2))
    return next((each for each in candidates if marks(len(marked), each, begins=begins) == marked), None)
