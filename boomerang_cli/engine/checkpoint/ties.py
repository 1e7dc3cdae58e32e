"""Whether a model's head is its embedding matrix, as transformers 5.23 decides it: by configuration and by files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.same_bytes import begin_alike, look_the_same
from boomerang_cli.engine.checkpoint.tensors import Tensor
from boomerang_cli.engine.errors import UnsupportedModelError


def is_tied(config: Mapping[str, Any], family: Family) -> bool:
    """Tell whether a configuration uses the embedding matrix as the head.

    Raises:
        UnsupportedModelError: it does not say so with true or false.
    """
    tied = config.get("tie_word_embeddings", family.tied_by_default)
    if family.wrapper and family.wrapper.tied_text is not None and tied is False:
        tied = family.text_config(config).get("tie_word_embeddings", family.wrapper.tied_text)
    if not isinstance(tied, bool):  # readers disagree about "false" and null
        raise UnsupportedModelError(f"config.json has no usable tie_word_embeddings: {tied!r}")
    if tied and not family.ties:  # some readers go by config.json, others by the class
        raise UnsupportedModelError(
            f"config.json has tie_word_embeddings, and no {config['model_type']} model is tied: set it to false"
        )
    return tied


def has_own_head(tensors: Mapping[str, Tensor], family: Family) -> bool:
    """Tell whether files hold a head that differs from their embedding: transformers uses it whatever config.json says.

    Of two on the Hub samples are compared, so that a plan costs no gigabytes: what makes a model of them compares the
    rest (``Parts.presumed``).

    Raises:
        CheckpointError: the two cannot be read to be compared.
        HubError: they are on the Hub, which refuses or fails.
    """
    embedding, head = tensors.get(family.embedding), tensors.get(family.head)
    return embedding is not None and head is not None and not look_the_same(embedding, head)


def without_head_copy(tensors: Mapping[str, Tensor], config: Mapping[str, Any], family: Family) -> dict[str, Tensor]:
    """Leave out the head of a tied model that begins like its embedding: taken for a copy that nobody needs to read.

    A look at a model is not worth reading two matrices of a gigabyte; what is written compares them to the end.
    """
    head = tensors.get(family.head)
    embedding = next((tensors[name] for name in tensors if family.embedding.endswith(name)), None)
    if head is None or embedding is None or not is_tied(config, family) or not begin_alike(embedding, head):
        return dict(tensors)
    return {name: tensor for name, tensor in tensors.items() if tensor is not head}
