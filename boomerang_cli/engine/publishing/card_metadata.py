"""The card's metadata: YAML before its text, in words that the Hub checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from boomerang_cli.engine.checkpoint.families import MASKED
from boomerang_cli.engine.checkpoint.hub_reading import is_repo_id


def task_of(model_type: str, *, multimodal: bool) -> str:
    """Return what models of a type do, as the Hub's pipelines are called."""
    if multimodal:
        return "image-text-to-text"
    return "fill-mask" if model_type in MASKED else "text-generation"


def metadata_of(made: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Return what stands before the card's text; keys without a value are left out.

    Args:
        made: as for ``card.model_card``, with nothing private in it.
        task: see :func:`task_of`.
    """
    sources = [made.get("teacher"), made.get("student")]
    bases = [source["name"] for source in sources if source and is_repo_id(source["name"])]
    data = _recipe_of(made).get("data")
    metadata = {
        "base_model": bases,
        "base_model_relation": ("merge" if "k" in made else "finetune") if bases else None,
        "library_name": "transformers",
        "pipeline_tag": task,
        **(_common_licence(made) or {}),
        "datasets": [each for each in _listed(data) if isinstance(each, str) and is_repo_id(each)],
        "tags": ["boomerang-distillation", "model-size-interpolation", *(["merge"] if "k" in made else [])],
    }
    return {key: value for key, value in metadata.items() if value}


def _common_licence(made: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Return the licence to declare: that of all models that tell one, if it is the same."""
    sources = [made, made.get("teacher") or {}, made.get("student") or {}]
    known = [source["license"] for source in sources if source.get("license")]
    return known[0] if known and all(each["license"] == known[0]["license"] for each in known) else None


def _recipe_of(made: Mapping[str, Any]) -> Mapping[str, Any]:
    return as_mapping(as_mapping(made.get("distillation")).get("recipe"))


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return what a student records of its training, where it is of the kind that it should be."""
    return value if isinstance(value, Mapping) else {}


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []
