"""A model's tensors by the names that files of it have, whole a few at a time, also of one that is split."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.tensor import DTensor
from transformers.core_model_loading import revert_weight_conversion

from boomerang_cli.engine.models.loading import causal_class
from boomerang_cli.engine.quiet import quiet_transformers

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class WholeTensors:
    """What a model's tensors become in files.

    Attributes:
        described: dtype and shape of each, by its name there, in the order of :meth:`each`.
    """

    described: dict[str, tuple[torch.dtype, torch.Size]]
    _state: Tensors
    _groups: Sequence[Sequence[str]]
    _convert: Callable[[Tensors], Tensors]

    @classmethod
    def of(cls, model: nn.Module, config: Mapping[str, Any], names: Collection[str]) -> WholeTensors:
        """Find out what is made of what, from shapes alone.

        Files hold the modules' names, or those that transformers gives what it saves. The two differ where it holds in
        one tensor what files keep apart, such as a layer's experts: so a layer's tensors are taken together.

        Args:
            config: the content of the model's ``config.json``.
            names: those that are wanted, in the order in which they should come where nothing is converted.
        """
        wanted = set(names)
        state: dict[str, Any] = get_model_state_dict(model)
        shapes = {name: torch.empty(tensor.shape, dtype=tensor.dtype, device="meta") for name, tensor in state.items()}
        if wanted <= state.keys():
            described = {name: (shapes[name].dtype, shapes[name].shape) for name in names}
            return cls(described, state, [[name] for name in names], lambda tensors: tensors)
        with quiet_transformers(), torch.device("meta"):
            settings, family = causal_class(config, "the student")
            blank = family(settings)

        def convert(tensors: Tensors) -> Tensors:
            made = revert_weight_conversion(blank, dict(tensors))
            return {name: tensor for name, tensor in made.items() if name in wanted}

        groups = [list(group) for _, group in groupby(state, key=_layer_of)]
        found = [convert({name: shapes[name] for name in group}) for group in groups]
        together = convert(shapes)
        if _described([together]).items() != _described(found).items():  # tensors of several layers become one
            groups, found = [list(state)], [together]
        return cls(_described(found), state, groups, convert)

    def each(self, *, wanted: bool) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield names and tensors, on the CPU; all processes must take them to the end, together.

        Args:
            wanted: whether this process wants them; for another it takes part in putting them together.
        """
        for group in self._groups:
            tensors = {}
            for name in group:
                tensor = self._state[name]
                whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
                if wanted:
                    tensors[name] = whole.detach().cpu()
                del whole
            if wanted:
                yield from self._convert(tensors).items()


def _layer_of(name: str) -> str:
    """Return the path of the layer that a tensor belongs to, or its own name."""
    found = re.match(r".*?\.\d+\.", name)
    return found.group() if found else name


def _described(groups: Sequence[Tensors]) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (tensor.dtype, tensor.shape) for group in groups for name, tensor in group.items()}
