"""A model of transformers without weights, on torch's `meta` device: what its class builds from a configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from boomerang_cli.engine.checkpoint.class_config import as_transformers_config, completed_config
from boomerang_cli.engine.quiet import quiet_transformers

LAYER_NUMBERS = frozenset({"layer_idx", "layer_id", "layer_number", "layer_index", "block_idx"})
"""What modules of transformers call the number of the layer that they belong to."""


@dataclass(frozen=True)
class Names:
    """How a model's tensors are called in its files and in its modules.

    Attributes:
        known: the module side's names.
        to_module, to_disk: from one to the other.
    """

    known: frozenset[str]
    to_module: Callable[[str], str]
    to_disk: Callable[[str], str]


@dataclass(frozen=True)
class Blueprint:
    """What a model is built from: its configuration, which holds that of its text model in a section if it has others.

    Attributes:
        section: the field that holds the text model's; empty if it is the whole.
    """

    config: Mapping[str, Any]
    section: str = ""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Blueprint:
        """Raises whatever the configuration's class does."""
        from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

        settings = as_transformers_config(config)
        text = settings.get_text_config()
        if text is settings or type(settings) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            return cls(config)
        return cls(config, next(field for field in settings.sub_configs if getattr(settings, field) is text))

    def whole(self, text: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**self.config, self.section: text} if self.section else text

    def untied(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a configuration whose section, if it has one, says nothing of tied weights."""
        section = config.get(self.section)
        if not isinstance(section, dict):
            return config
        return {**config, self.section: {**section, "tie_word_embeddings": False}}

    def build(self, text: Mapping[str, Any]) -> Any:
        """Build the model of another text configuration; raises whatever its class does."""
        return build(self.whole(text))

    def completed(self, text: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a text configuration with what its class adds."""
        whole = completed_config(self.whole(text), "it")
        return whole[self.section] if self.section else whole


def build(config: Mapping[str, Any]) -> Any:
    """Build the model of a ``config.json``: multimodal, else causal if there is one; raises as its class does."""
    import torch
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        MODEL_FOR_MASKED_LM_MAPPING,
    )

    settings = as_transformers_config(config)
    mapping = (
        MODEL_FOR_CAUSAL_LM_MAPPING if type(settings) in MODEL_FOR_CAUSAL_LM_MAPPING else MODEL_FOR_MASKED_LM_MAPPING
    )
    if Blueprint.of(config).section:
        mapping = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    kind: Any = mapping[type(settings)]
    with torch.device("meta"), quiet_transformers():
        return kind._from_config(settings, dtype=torch.float32).eval()


def names_of(model: Any) -> Names:
    """Return how transformers renames tensors when it reads and writes this model."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    known = dict.fromkeys(model.state_dict(), 1)
    renamings, converters = _sorted(get_model_conversion_mapping(model), WeightRenaming, WeightConverter)
    reverse = [each.reverse_transform() for each in get_model_conversion_mapping(model, add_legacy=False)][::-1]
    back, converters_back = _sorted(reverse, WeightRenaming, WeightConverter)

    def to_module(name: str) -> str:
        renamed: str = rename_source_key(name, renamings, converters, model.base_model_prefix, known)[0]
        if renamed not in known and name in known:
            renamed = rename_source_key(name, [], [], model.base_model_prefix, known)[0]
        return renamed

    def to_disk(name: str) -> str:
        renamed: str = rename_source_key(name, back, converters_back, reverse=True)[0]
        return renamed

    return Names(frozenset(known), to_module, to_disk)


def _sorted(conversions: Iterable[Any], *kinds: type) -> list[list[Any]]:
    found = list(conversions)
    return [[each for each in found if isinstance(each, kind)] for kind in kinds]


def layers_of(model: Any, stack: str) -> Any:
    """Return the layers that stand at a prefix such as ``model.layers.``, or None where no list of modules does."""
    try:
        layers = model.get_submodule(stack.rstrip("."))
        len(layers)
    except (AttributeError, TypeError):
        return None
    return layers


def signatures(model: Any, stack: str, *, follow_layers: bool = True) -> list[Any]:
    """Return for each layer what its class made of it: every module's class and plain values, every tensor's shape.

    Layers of equal signatures compute the same with equal weights, but for what code does with the layer's number.

    Args:
        follow_layers: whether lists as long as the model is deep are taken to be one value a layer, which follow it.
    """
    layers = layers_of(model, stack)
    return [
        [
            (
                name,
                type(module).__name__,
                _plain_values(module, len(layers) if follow_layers else 0),
                [(key, tuple(each.shape)) for key, each in module._parameters.items() if each is not None],
            )
            for name, module in layer.named_modules()
        ]
        for layer in layers
    ]


def _plain_values(module: Any, depth: int) -> list[tuple[str, str]]:
    values = []
    for key, value in vars(module).items():
        if key.startswith("_") or key == "training":
            continue
        if key in LAYER_NUMBERS and isinstance(value, int):
            value = "the layer's number"
        elif isinstance(value, (list, tuple)) and len(value) == depth > 2:
            value = "one a layer"
        elif isinstance(value, float):
            value = float(f"{value:.12g}")
        elif not isinstance(value, (int, str, list, tuple, type(None))):
            continue
        values.append((key, repr(value)))
    return sorted(values)


def difference(one: Any, other: Any) -> str:
    """Say in what two layers' signatures differ first."""
    for left, right in zip(one, other, strict=False):
        if left != right:
            module = left[0] or type(left).__name__
            values = [pair for pair in zip(left[2], right[2], strict=False) if pair[0] != pair[1]]
            if values:
                (key, value), (_, changed) = values[0]
                return f"{module + '.' if left[0] else ''}{key} {value} becomes {changed}"[:160]
            return f"{left[1]} {left[0]} becomes {right[1]} {right[0]}"[:160]
    return f"{len(one)} modules become {len(other)}"


def numbered_prefix(name: str) -> tuple[str, int] | None:
    """Return what stands before the first number of a tensor's name, and that number."""
    match = re.match(r"(.*?\.|)(0|[1-9]\d*)\.(.+)", name)
    return (match[1], int(match[2])) if match else None
