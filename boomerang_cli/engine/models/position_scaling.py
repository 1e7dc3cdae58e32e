"""Position encodings that a whole sequence decides on: what a model makes of a token depends on what follows it."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

_OF_LENGTH = ("dynamic", "longrope")
"""Kinds of rotary embedding whose frequencies are chosen by the length of the longest sequence of a batch."""


def positions_depend_on_length(model: PreTrainedModel) -> bool:
    """Tell whether a longer sequence in a batch, or padding, changes the states of the others."""
    return _mentions_length(getattr(model.config, "rope_parameters", None))


def _mentions_length(parameters: Any) -> bool:
    """Look through the parameters of one embedding, or of one for each kind of layer."""
    if not isinstance(parameters, dict):
        return False
    kinds = (parameters.get("rope_type"), parameters.get("type"))
    return any(kind in _OF_LENGTH for kind in kinds) or any(map(_mentions_length, parameters.values()))
