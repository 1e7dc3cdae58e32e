"""The hidden states of a model, taken as its layers run, and where those layers are."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from boomerang_cli.engine.errors import UnsupportedModelError


def hidden_states_at(
    model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor | None, indices: Collection[int]
) -> dict[int, Tensor]:
    """Run the model's body and return some of its ``hidden_states``, ``[batch, sequence, hidden]`` each, by index.

    Numbered as transformers does: j is the input of layer j, -1 the output of the final norm, which is always there.
    The others are dropped as the layers run, which ``output_hidden_states=True`` does not do.
    """
    states: dict[int, Tensor] = {}

    def keep_input(index: int) -> Any:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            states[index] = args[0] if args else kwargs["hidden_states"]

        return hook

    layers = decoder_layers(model)
    hooks = [
        layers[index].register_forward_pre_hook(keep_input(index), with_kwargs=True) for index in indices if index >= 0
    ]
    try:
        output = _body(model)(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return states | {-1: output.last_hidden_state}


def _body(model: PreTrainedModel) -> Any:
    """Return the model without its head, which llama4_text does not know by its prefix."""
    return model.model if model.base_model is model else model.base_model


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """Return the list of the model's layers.

    Raises:
        UnsupportedModelError: no list of modules is as long as the model is deep.
    """
    depth = model.config.num_hidden_layers
    for module in model.base_model.modules():  # parents first: the list of layers comes before what is in the layers
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise UnsupportedModelError(f"{type(model).__name__} holds no list of {depth} layers")
