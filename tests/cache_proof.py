"""The cache that a tiny model really fills, and what is counted of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel, StaticCache

from boomerang_cli.engine.checkpoint.cache_size import cache_bytes
from boomerang_cli.engine.checkpoint.family_table import known_family

CONTEXT, BATCH = 24, 2


def counted(config: dict[str, Any], *, context: int = CONTEXT, batch: int = BATCH, dtype_bytes: int = 2) -> int:
    family = known_family(config, "m")
    assert family is not None
    return cache_bytes(config, family, context=context, batch=batch, dtype_bytes=dtype_bytes, name="m")


def real(model: PreTrainedModel) -> int:
    """The bytes of a cache of ``CONTEXT`` tokens, after a pass over a few of them."""
    takes = inspect.signature(model.forward).parameters
    tokens = torch.randint(3, 60, (BATCH, 6))
    with torch.no_grad():
        if "cache_params" in takes:  # states alone, whatever the context
            cache: Any = DynamicCache(config=model.config)
            model(tokens, cache_params=cache, use_cache=True)
        else:
            cache = StaticCache(config=model.config, max_cache_len=CONTEXT)
            model(tokens, past_key_values=cache, use_cache=True)
    held = {each.data_ptr(): each for layer in cache.layers for each in tensors(vars(layer)) if each.numel() > 1}
    return sum(each.nbytes for each in held.values())


def tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors(each)
