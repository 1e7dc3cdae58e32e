"""A patched student while it is trained: the very layers of its pair, in the body of the model that they make."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from transformers import PreTrainedModel

from boomerang_cli.engine.models.compose import (
    LoadedPair,
    blank_model,
    get_tensor,
    layers_prefix,
    origins,
    set_tensor,
)
from boomerang_cli.engine.models.hidden_states import decoder_layers
from boomerang_cli.engine.pair.layers import Owner

_MOST_BODIES = 64
"""Kept to be used again; one takes some 20 to 80 milliseconds to make, and holds modules without memory."""


class PatchedStudents:
    """Gives models between a student and its teacher that are trained where they are the student's.

    A model has the configuration that ``patch`` would write, so that masks and positions are those of the written one.
    Its layers are the pair's own modules, not copies, and nothing is frozen or thawed: a gradient reaches the student's
    parameters through the teacher's layers, and whatever hooks a layer has (FSDP2's, say) run as they do at home.
    """

    def __init__(self, loaded: LoadedPair) -> None:
        self._loaded = loaded
        self._bodies: dict[tuple[int, ...], _Body] = {}

    def model(self, patched: Collection[int]) -> PreTrainedModel:
        """Return the model in which the blocks in ``patched`` are the teacher's (SPEC.md's rule; rule 3 included).

        It is to be run while the roots of both models are whole (see ``sharding.with_whole_root``): embedding, final
        norm and head are looked up anew at each call, because whole and split ones are not the same tensors.
        """
        blocks = tuple(sorted(patched))
        if blocks not in self._bodies:
            if len(self._bodies) == _MOST_BODIES:
                del self._bodies[next(iter(self._bodies))]
            self._bodies[blocks] = self._make(blocks)
        model, ends = self._bodies[blocks]
        for name, (owner, own_name) in ends.items():
            set_tensor(model, name, get_tensor(self._loaded.models[owner], own_name))
        return model

    def _make(self, blocks: tuple[int, ...]) -> _Body:
        family, sources = self._loaded.pair.family, self._loaded.pair.layer_map.sources(blocks)
        model = blank_model(self._loaded, sources)
        prefix, found = layers_prefix(model, len(sources)), origins(model, family, sources)
        own = {
            owner: decoder_layers(each, len(self._loaded.whole(owner))) for owner, each in self._loaded.models.items()
        }
        layers = decoder_layers(model, len(sources))
        dtypes = {owner: each.dtype for owner, each in self._loaded.models.items()}
        for index, source in enumerate(sources):
            layer = own[source.owner][source.index]
            layers[index] = layer if dtypes["teacher"] == dtypes["student"] else _AsAtHome(layer, dtypes[source.owner])
        return _Body(model, {name: each for name, each in found.items() if not name.startswith(prefix)})


class _Body(NamedTuple):
    """A model whose layers are the pair's; of each tensor outside of them, whose it is and its name there."""

    model: PreTrainedModel
    ends: dict[str, tuple[Owner, str]]


class _AsAtHome(nn.Module):
    """A layer among layers of another dtype: what it is called with is in its own, as in the model that it is from.

    A frozen teacher of half precision computes without autocast, as it does when its own states are taken: autocast
    would widen its norms alone. What a student's layer gets of float32 and autocast stays.
    """

    def __init__(self, layer: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer, self.dtype = layer, dtype

    def __getattr__(self, name: str) -> Any:
        """A body asks its layers for their kind."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        def cast(value: Any) -> Any:
            return value.to(self.dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

        args, kwargs = tree_map(cast, (args, kwargs))
        device_type = next(self.layer.parameters()).device.type
        enabled = torch.is_autocast_enabled(device_type) and self.dtype == torch.float32
        with torch.autocast(device_type, enabled=enabled):
            return self.layer(*args, **kwargs)
