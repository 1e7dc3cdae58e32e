"""A model in memory written to files, by the names that other files of it have."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any


def save_by_names(model: Any, folder: Path, names: Collection[str], max_shard_size: str) -> None:
    """Write a model of transformers by the names that the Hub's files have, or by those of its own modules.

    The two differ where transformers holds in one tensor what files keep apart, such as a layer's experts; files that
    were written from memory as it stands (``save_original_format=False``) have the modules' names.

    Args:
        names: the tensors that the files must hold, by either.
    """
    of_modules = set(names) <= model.state_dict().keys()
    model.save_pretrained(folder, max_shard_size=max_shard_size, save_original_format=not of_modules)
