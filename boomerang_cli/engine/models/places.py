"""Layers of a pair on several devices: hidden states travel from one to the next, and come back at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn
from transformers import PreTrainedModel

from boomerang_cli.engine.models.hidden_states import decoder_layers
from boomerang_cli.engine.pair.layers import LayerSource


@dataclass(frozen=True)
class Places:
    """Where a pair's models stand.

    Attributes:
        first: the device of all that is beside layers: embedding, norm, head. Models take and give tensors there.
        layers: that of each layer of the teacher, and of the student's layer that stands for it.
    """

    first: torch.device
    layers: tuple[torch.device, ...]

    def hold(self, model: PreTrainedModel, sources: Sequence[LayerSource]) -> None:
        """Move a model's tensors to their places, and let it run there.

        Args:
            sources: of its layers; tensors that are in their places already are not copied.
        """
        layers = decoder_layers(model, len(sources))
        within = {id(module) for layer in layers for module in layer.modules()}
        for module in model.modules():
            if id(module) not in within:
                module._apply(lambda tensor: tensor.to(self.first), recurse=False)  # type: ignore[no-untyped-call]
        for layer, source in zip(layers, sources, strict=True):
            layer.to(self.layers[source.teacher_layer])
            _take_inputs_to(layer, self.layers[source.teacher_layer])
        _take_output_to(layers[-1], self.first)


def _take_inputs_to(layer: nn.Module, device: torch.device) -> None:
    def move(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return send_to_device((args, kwargs), device, skip_keys=["past_key_values"])  # its layers stand where they run

    layer.register_forward_pre_hook(move, with_kwargs=True)


def _take_output_to(layer: nn.Module, device: torch.device) -> None:
    def move(layer: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, Tensor):
            return output.to(device)
        return (output[0].to(device), *output[1:])

    layer.register_forward_hook(move)
