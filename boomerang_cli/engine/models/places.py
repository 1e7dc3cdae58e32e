"""Layers of a pair on several devices: hidden states travel from one to the next, and come back at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, ValuesView
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn
from transformers import PreTrainedModel

from boomerang_cli.engine.models.hidden_states import decoder_layers, layers_prefix
from boomerang_cli.engine.models.loading import causal_class
from boomerang_cli.engine.pair.layers import LayerSource
from boomerang_cli.engine.quiet import quiet_transformers


@dataclass(frozen=True)
class Places:
    """Where a pair's models stand.

    Attributes:
        first: the device of all that is beside layers: embedding, norm, head. Models take and give tensors there.
        layers: that of each layer of the teacher, and of the student's layer that stands for it.
    """

    first: torch.device
    layers: tuple[torch.device, ...]

    def device_map(
        self, config: Mapping[str, Any], name: str, sources: Sequence[LayerSource]
    ) -> Mapping[str, torch.device]:
        """Return where each part of a model stands, for ``loading.load_model``.

        Args:
            config: the content of the model's ``config.json``.
            name: of the model, for errors (as in ``loading.causal_class``).
            sources: of its layers.
        """
        settings, family = causal_class(config, name)
        with quiet_transformers(), torch.device("meta"):
            prefix = layers_prefix(family(settings), len(sources))
        layers = {f"{prefix}{index}.": self.layers[source.teacher_layer] for index, source in enumerate(sources)}
        return _DeviceMap({"": self.first, **layers})

    def hold(self, model: PreTrainedModel, sources: Sequence[LayerSource]) -> None:
        """Move a model's tensors to their places, and let it run there.

        Args:
            sources: of its layers; tensors that are in their places already are not copied.
        """
        layers = decoder_layers(model, len(sources))
        devices = [self.layers[source.teacher_layer] for source in sources]
        within = {module: device for layer, device in zip(layers, devices, strict=True) for module in layer.modules()}
        moved: dict[Tensor, Tensor] = {}  # one that stands in two places, an embedding that is the head, stays one
        for module in model.modules():
            _move(module, within.get(module, self.first), moved)
        for layer, device in zip(layers, devices, strict=True):
            _take_inputs_to(layer, device)
        _take_output_to(layers[-1], self.first)


class _DeviceMap(dict[str, torch.device]):
    """Devices by the beginnings of tensors' names, which transformers reads to and does not run a model on.

    It counts the devices by ``values``: of several, it has accelerate move tensors between them, which ``hold`` does.
    """

    def values(self) -> ValuesView[torch.device]:  # type: ignore[override]
        return {"": self[""]}.values()


def _move(module: nn.Module, device: torch.device, moved: dict[Tensor, Tensor]) -> None:
    for held in (module._parameters, module._buffers):
        for name, tensor in held.items():
            if tensor is not None and tensor.device != device:
                if tensor not in moved:
                    there = tensor.detach().to(device)
                    moved[tensor] = nn.Parameter(there, tensor.requires_grad) if held is module._parameters else there
                held[name] = moved[tensor]  # type: ignore[assignment]


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
