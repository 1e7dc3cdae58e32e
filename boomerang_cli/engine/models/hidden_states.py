"""The hidden states of a model, taken as its layers run, and where those layers are."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from boomerang_cli.engine.errors import UnsupportedModelError


def hidden_states_at(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    indices: Collection[int],
    depth: int | None = None,
) -> dict[int, Tensor]:
    """Run the model's body and return some of its ``hidden_states``, ``[batch, sequence, hidden]`` each, by index.

    Numbered as transformers does: j is the input of layer j, -1 the output of the final norm, which is always there.
    The others are dropped as the layers run, which ``output_hidden_states=True`` does not do.

    Args:
        depth: see :func:`decoder_layers`.

    Raises:
        UnsupportedModelError: the body runs such a long text in pieces (xLSTM), or has no list of layers.
    """
    states: dict[int, Tensor] = {}

    def keep_input(index: int) -> Any:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if index in states:
                raise UnsupportedModelError(
                    f"{type(model).__name__} runs texts of {input_ids.shape[1]} tokens in pieces: "
                    "give a shorter --sequence-length"
                )
            states[index] = args[0] if args else kwargs["hidden_states"]

        return hook

    layers = decoder_layers(model, depth)
    hooks = [
        layers[index].register_forward_pre_hook(keep_input(index), with_kwargs=True) for index in indices if index >= 0
    ]
    try:
        output = body_of(model)(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return states | {-1: output.last_hidden_state}


def body_of(model: PreTrainedModel) -> nn.Module:
    """Return the part of a model that its head follows.

    ``base_model`` is the model itself where a class names another prefix than it has (Llama 4's text model).
    """
    body: nn.Module = model.base_model
    if body is not model:
        return body
    return next(part for part in model.children() if any(isinstance(each, nn.ModuleList) for each in part.modules()))


def decoder_layers(model: PreTrainedModel, depth: int | None = None) -> nn.ModuleList:
    """Return the list of the model's layers.

    Args:
        depth: how many they are; None is what the configuration calls ``num_hidden_layers``, which some types mean
            otherwise (an encoder's of BART, twice as many of LongCat).

    Raises:
        UnsupportedModelError: no list of modules is as long as the model is deep.
    """
    depth = model.config.num_hidden_layers if depth is None else depth
    for module in body_of(model).modules():  # parents first: the list of layers comes before what is in the layers
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise UnsupportedModelError(f"{type(model).__name__} holds no list of {depth} layers")


def layers_prefix(model: PreTrainedModel, depth: int) -> str:
    """Return what stands before the layers' numbers in the modules' names; files may have another name for it."""
    layers = decoder_layers(model, depth)
    return next(f"{name}." for name, module in model.named_modules() if module is layers)
