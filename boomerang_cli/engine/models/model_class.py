"""What a model's class in transformers holds, under the names that files have: compared with the files before any work.

transformers itself draws at random what files lack, and passes over what its class does not have.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.tensors import Tensor
from boomerang_cli.engine.errors import CheckpointError
from boomerang_cli.engine.models.loading import causal_class
from boomerang_cli.engine.pair.layers import Owner
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.quiet import quiet_transformers


def check_pair(pair: Pair) -> None:
    """Compare both models of a pair with their classes (errors as in :func:`check_tensors`)."""
    owners: tuple[Owner, ...] = ("teacher", "student")
    for owner in owners:
        tensors = pair.parts[owner].named(pair.family)
        check_tensors(tensors, pair.config(owner), pair.family, pair.checkpoint(owner).name)


def check_tensors(tensors: Mapping[str, Tensor], config: Mapping[str, Any], family: Family, name: str) -> None:
    """Compare a model's tensors with what its class has: the same names, of the same shapes.

    Args:
        tensors: by the family's full names.
        name: of the model, for the error.

    Raises:
        CheckpointError: the first tensor that the class does not have, or the files lack, or of another shape.
        UnsupportedModelError: the family has no causal language model.
    """
    class_name, shapes = _shapes(config, tensors, name)
    if config["tie_word_embeddings"]:
        shapes.pop(family.head, None)
    for full_name, tensor in tensors.items():
        shape = shapes.get(full_name)
        if shape is None:
            raise CheckpointError(
                f"{tensor.file} holds {tensor.name}, which {class_name} of transformers does not have: "
                "load the model with transformers and save it again, if the tensor does not matter"
            )
        if shape != tensor.shape:
            raise CheckpointError(
                f"{tensor.file}: {tensor.name} has the shape {list(tensor.shape)}, {class_name} of transformers "
                f"needs {list(shape)}: config.json and weights do not belong together"
            )
    copies = {family.tied_bias[0]} if config["tie_word_embeddings"] and family.tied_bias else set()
    if missing := shapes.keys() - tensors.keys() - copies:
        raise CheckpointError(
            f"{name} lacks {min(missing)}, which {class_name} of transformers has: "
            "config.json and weights do not belong together"
        )


def _shapes(config: Mapping[str, Any], tensors: Collection[str], name: str) -> tuple[str, dict[str, tuple[int, ...]]]:
    """Return the name of a model's class, and the shapes of what it would save: by the Hub's names or its modules'.

    Args:
        tensors: the names in its files; the spelling that more of them have is taken (see ``saving.save_by_names``).
    """
    import torch
    from transformers.core_model_loading import revert_weight_conversion

    settings, family = causal_class(config, name)
    with quiet_transformers(), torch.device("meta"):
        model = family(settings)
        own = model.state_dict()
        saved = revert_weight_conversion(model, own)
    spelling = max(saved, own, key=lambda names: len(names.keys() & set(tensors)))
    return family.__name__, {key: tuple(tensor.shape) for key, tensor in spelling.items()}
