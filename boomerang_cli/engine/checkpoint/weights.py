"""Which of a model's files are its weights: the choice that transformers 5.23 makes, from names alone.

A file that ``config.json`` names comes first, then ``model.safetensors``, then the index; variants such as
``model.fp16.safetensors`` and folders in the model's are not looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Any

from boomerang_cli.engine.errors import CheckpointError

CONFIG_FILE = "config.json"
STUDENT_PART = "boomerang"
"""A part of ``config.json`` that says whose layers a model's are (see ``pair/student_config.py``)."""
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
NAMED_BY_CONFIG = "transformers_weights"
PICKLES = (".bin", ".pt", ".pth")

_INDEX = ".safetensors.index.json"
_WEIGHTS = (".safetensors", _INDEX)


def entry_file(names: Collection[str], config: Mapping[str, Any], model: str) -> str | None:
    """Return the file that reading a model's weights begins with, an index or the weights, or None without any.

    Raises:
        CheckpointError: ``config.json`` names a file that cannot hold weights.
    """
    named = config.get(NAMED_BY_CONFIG)
    if named is not None:
        if not isinstance(named, str) or PurePath(named).name != named or not named.endswith(_WEIGHTS):
            raise CheckpointError(
                f"config.json of {model} has no usable {NAMED_BY_CONFIG}: {named!r} (a .safetensors file beside it, "
                "or the index of some)"
            )
        return named
    return next((name for name in (SINGLE_FILE, INDEX_FILE) if name in names), None)


def is_index(name: str) -> bool:
    return name.endswith(_INDEX)


def shard_files(content: Mapping[str, Any], index: str) -> tuple[str, ...]:
    """Return the names of the files that an index names.

    Args:
        index: its name, for the error.

    Raises:
        CheckpointError: it names none, or one outside the model's folder.
    """
    weight_map = content.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map")
    shards = sorted(set(map(str, weight_map.values())))
    for shard in shards:
        if shard in ("", ".", "..") or PurePath(shard).name != shard or "\\" in shard:
            raise CheckpointError(f"{index} names a file outside the folder: {shard!r}")
    return tuple(shards)


def set_aside(names: Collection[str], used: Collection[str]) -> tuple[str, ...]:
    """Return the names of other weights and indexes, which a reader might have taken for the model's."""
    return tuple(sorted(name for name in names if name.endswith(_WEIGHTS) and name not in used))


def nothing_found(names: Collection[str]) -> str:
    """Say of a model without weights what there is instead, and the way out."""
    if others := set_aside(names, ()):
        return f" and no {INDEX_FILE}: {others[0]} is not read by that name, rename it if it is the model"
    if any(name.endswith(PICKLES) for name in names):
        return (
            ", only pickled weights, which can run code when they are read: convert them first, with "
            "`AutoModelForCausalLM.from_pretrained(MODEL).save_pretrained(FOLDER)`, "
            "or https://hf.co/spaces/safetensors/convert"
        )
    return f" and no {INDEX_FILE}"
