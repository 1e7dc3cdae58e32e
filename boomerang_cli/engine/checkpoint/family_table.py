"""What is known of a model type: a row written by hand, one derived and proved, or why its layers cannot be moved.

``families.json`` is written by ``benchmarks/families.py``, from what the installed transformers makes of every type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint.class_config import completed_config
from boomerang_cli.engine.checkpoint.families import FAMILIES, Family
from boomerang_cli.engine.checkpoint.wrappers import Wrapper
from boomerang_cli.engine.errors import UnsupportedModelError

REFUSED = {
    "gemma3n": "its layers share key-value caches",
    "gemma3n_text": "its layers share key-value caches",
    "diffllama": "its attention uses the layer's index",
    "minimax": "its residual weights depend on the layer's index",
    "cohere_compass_text": "image features are added to them by the layer's index",
    "prophetnet": "their embedding is an encoder's",
    "reformer": "they are reversible, and hash by the layer's index",
    "zamba2": "they share weights with one another",
}

_TABLE = "families.json"
_PAIRS = ("numbered", "thresholds", "spellings")
_DEFAULTS = Family()


def known_family(config: Mapping[str, Any], name: str) -> Family | None:
    """Return the family of a configuration, or None if its type is in neither table.

    Raises:
        UnsupportedModelError: layers of the type cannot be moved; says why.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise UnsupportedModelError(f"config.json of {name} has no model_type")
    if reason := REFUSED.get(model_type):
        raise UnsupportedModelError(f"{name}: layers of {model_type} cannot be moved, {reason}")
    if config.get("scale_attn_by_inverse_layer_idx"):
        raise UnsupportedModelError(f"{name}: layers cannot be moved, scale_attn_by_inverse_layer_idx is set")
    if family := FAMILIES.get(model_type):
        check_required(config, family, name)
        return family
    row = _row_of_type(model_type, config, name)
    if row is not None and "refused" in row:
        raise UnsupportedModelError(f"{name}: layers of {model_type} cannot be moved, {row['refused']}")
    if row is None:
        return None
    family = family_from_row(row)
    check_required(config, family, name)
    return family


def _row_of_type(model_type: str, config: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """Return the row of a type; of a multimodal one, that of the text model within it: ``llava``, ``llava/mistral``."""
    section = config.get("text_config")
    text_type = section.get("model_type") if isinstance(section, dict) else None
    if not isinstance(text_type, str | None):
        raise UnsupportedModelError(f"text_config in config.json of {name} has no usable model_type: {text_type!r}")
    row = derived_rows().get(f"{model_type}/{text_type}") or derived_rows().get(model_type)
    if row is not None and "wrapper" in row and text_type not in (None, row["wrapper"]["text_type"]):
        return None
    return row


def check_required(config: Mapping[str, Any], family: Family, name: str) -> None:
    """Check that the fields without whose values layers cannot be moved have them.

    Raises:
        UnsupportedModelError: one has not; says why that matters.
    """
    text = family.text_config(config)
    for field, needed, reason in family.requires:
        value = text.get(field)
        value = family.text_config(completed_config(config, name)).get(field) if value is None else value
        if any(each not in (None, needed) for each in (value if isinstance(value, list) else [value])):
            raise UnsupportedModelError(f"{name}: layers of {config['model_type']} cannot be moved, {reason} ({field})")


@cache
def derived_rows() -> dict[str, dict[str, Any]]:
    """Return ``families.json``: by type, what differs from :class:`Family`'s defaults, or why it is refused."""
    rows: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name(_TABLE).read_text(encoding="utf-8"))
    return rows


def family_from_row(row: Mapping[str, Any]) -> Family:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    values |= {key: tuple(row[key].items()) for key in _PAIRS if key in row}
    if "requires" in row:
        values["requires"] = tuple(map(tuple, row["requires"]))
    if "wrapper" in row:
        spellings = tuple(row["wrapper"].get("spellings", {}).items())
        values["wrapper"] = Wrapper(**{**row["wrapper"], "spellings": spellings})
    return Family(**values)


def row_of(family: Family) -> dict[str, Any]:
    """Return a family as a row of ``families.json``; the opposite of :func:`family_from_row`."""
    row = _differing(family, _DEFAULTS)
    if family.wrapper:
        row["wrapper"] = _differing(family.wrapper, Wrapper(""))
    return row


def _differing(made: Family | Wrapper, default: Family | Wrapper) -> dict[str, Any]:
    row = {field.name: getattr(made, field.name) for field in fields(made)}
    row = {key: value for key, value in row.items() if value != getattr(default, key)}
    return {key: dict(value) if key in _PAIRS else value for key, value in sorted(row.items())}
