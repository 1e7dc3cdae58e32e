"""The card's metadata: YAML before its text, in words that the Hub checks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from boomerang_cli.engine.checkpoint.families import predicts_masked_words
from boomerang_cli.engine.checkpoint.hub_reading import is_repo_id

_SOURCES = ("teacher", "student", "delta_student", "base")
"""The models that a model is made of."""


def task_of(config: Mapping[str, Any], *, multimodal: bool) -> str:
    """Return what the model of a ``config.json`` does, as the Hub's pipelines are called."""
    if multimodal:
        return "image-text-to-text"
    return "fill-mask" if predicts_masked_words(config) else "text-generation"


def metadata_of(made: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Return what stands before the card's text; keys without a value are left out.

    Args:
        made: as for ``card.model_card``, with nothing private in it.
        task: see :func:`task_of`.
    """
    sources = [made.get(role) for role in _SOURCES]
    bases = [source["name"] for source in sources if source and is_repo_id(source["name"])]
    metadata = {
        "base_model": bases,
        "base_model_relation": ("merge" if _is_merge(made) else "finetune") if bases else None,
        "library_name": "transformers",
        "pipeline_tag": task,
        **(_common_licence(made) or {}),
        "datasets": _datasets_of(as_mapping(made.get("distillation"))),
        "tags": ["boomerang-distillation", "model-size-interpolation", *(["merge"] if _is_merge(made) else [])],
    }
    return {key: value for key, value in metadata.items() if value}


def _is_merge(made: Mapping[str, Any]) -> bool:
    return "k" in made or "delta_student" in made


def _common_licence(made: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Return the licence to declare: that of all models that tell one, if it is the same."""
    sources = [made, *(made.get(role) or {} for role in _SOURCES)]
    known = [source["license"] for source in sources if source.get("license")]
    return known[0] if known and all(each["license"] == known[0]["license"] for each in known) else None


def _datasets_of(distillation: Mapping[str, Any]) -> list[str]:
    """Return the Hub ids of what was trained on; older students record only what was typed, folders too."""
    recipe = as_mapping(distillation.get("recipe"))
    typed = [*_listed(recipe.get("data")), *_listed(recipe.get("sft_data"))]
    data = distillation["datasets"] if isinstance(distillation.get("datasets"), list) else typed
    names = [re.split("[:@]", each)[0] for each in data if isinstance(each, str)]  # without configuration, revision
    return [each for each in dict.fromkeys(names) if is_repo_id(each)]


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return what a student records of its training, where it is of the kind that it should be."""
    return value if isinstance(value, Mapping) else {}


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []
