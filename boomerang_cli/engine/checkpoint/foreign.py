"""What is no plain model: adapters, quantised weights, names of a wrapper; recognised, and refused with the way out."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from boomerang_cli.engine.checkpoint.tensors import Tensor
from boomerang_cli.engine.errors import CheckpointError, UnsupportedModelError

_ADAPTER = "adapter_config.json"

_QUANTISED_DTYPES = ("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "I16", "U16", "I32", "U32")
"""No weight of a plain model has one of them; BOOL and I64 are those of masks and positions."""
# What compressed-tensors, ModelOpt, fine-grained FP8, GPTQ, AWQ, bitsandbytes and others keep beside a weight.
_QUANTISED_NAMES = (
    r"(^|\.)("
    r"(weight|input|output|[qkv]|kv|kv_cache|[qkv]_proj|prob|act|activation)_(global_)?(scales?|zero_point)(_inv|_2)?"
    r"|scales|(weight_)?(packed|g_idx)|weight_shape|q(weight|zeros|scales)|(nested_)?(absmax|quant_map)"
    r"|quant_state(\..+)?|SCB|weight_format|\w+_amax|\w+_(blocks|scales)"
    r")$"
)
_QUANTISED_CONFIG = ("quantization_config", "compression_config", "quantization")
_QUANTISED_FILES = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")

_WRAPPERS = {
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_forward_module": "Lightning",
    "base_layer": "peft",
}
"""What puts its own name into those of the tensors, wherever it was wrapped around."""
_PREFIXES = {"module": "DistributedDataParallel", "base_model.model": "peft"}
_LORA = r"\.lora_(A|B|embedding_A|embedding_B|magnitude_vector)\."


def refuse_adapter(names: Collection[str], model: str, *, is_model: bool) -> None:
    """Refuse a LoRA adapter, alone or beside a model: transformers adds it where peft is installed, and only there.

    Args:
        names: of the model's files.
        is_model: whether there is a model too.

    Raises:
        UnsupportedModelError: says what to do.
    """
    if _ADAPTER not in names:
        return
    if not is_model:
        raise UnsupportedModelError(
            f"{model} is a LoRA adapter ({_ADAPTER}), not a model: merge it into its base, with "
            f"`AutoPeftModelForCausalLM.from_pretrained(ADAPTER).merge_and_unload().save_pretrained(FOLDER)` of peft"
        )
    raise UnsupportedModelError(
        f"{model} holds a LoRA adapter beside its weights ({_ADAPTER}), which transformers adds to them only where "
        "peft is installed: merge it with peft's merge_and_unload(), or give a copy without the adapter's files"
    )


def refuse_quantised(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], names: Collection[str], model: str
) -> None:
    """Refuse weights that stand for others by way of scales, which layers of another model would not fit.

    Args:
        names: of the model's files.

    Raises:
        UnsupportedModelError: says what was seen.
    """
    stated = {key: value for part in _parts(config) for key, value in part.items() if value is not None}
    if seen := next((key for key in _QUANTISED_CONFIG if key in stated), None):
        method = stated[seen].get("quant_method") if isinstance(stated[seen], dict) else None
        what, way_out = f"{seen} in config.json" + (f", {method}" if method else ""), ""
    elif tensor := next(filter(_is_quantised, tensors.values()), None):
        what, way_out = f"{tensor.name} in {tensor.dtype}", ""
    elif found := next((name for name in _QUANTISED_FILES if name in names), None):
        what, way_out = found, f", or remove {found} if its weights are none"
    else:
        return
    raise UnsupportedModelError(
        f"{model} holds quantised weights or their scales ({what}): give the unquantised model{way_out}"
    )


def _parts(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a configuration and those within it: of a multimodal model, the text model's may be quantised alone."""
    return [config, *(part for field, part in config.items() if field.endswith("_config") and isinstance(part, dict))]


def _is_quantised(tensor: Tensor) -> bool:
    if tensor.dtype in _QUANTISED_DTYPES:
        return True
    plain = tensor.name.endswith((".weight", ".bias"))  # most of a hundred thousand names need no search
    return not plain and re.search(_QUANTISED_NAMES, tensor.name) is not None


def refuse_wrapped(tensors: Mapping[str, Tensor], model: str) -> None:
    """Refuse tensors that carry the name of what a model was wrapped in when it was saved.

    Raises:
        CheckpointError: names the first.
    """
    for name in tensors:
        if re.search(_LORA, name):
            raise CheckpointError(
                f"{model} holds {name}, a part of an adapter that is not merged: call peft's merge_and_unload() "
                "before save_pretrained()"
            )
        parts = name.split(".")
        wrapper = next((part for part in parts if part in _WRAPPERS), None)
        wrapper = wrapper or next((prefix for prefix in _PREFIXES if name.startswith(f"{prefix}.")), None)
        if wrapper:
            raise CheckpointError(
                f"{model} holds {name}: {wrapper} is the name of what the model was wrapped in "
                f"({({**_WRAPPERS, **_PREFIXES})[wrapper]}), save the model within it, or rename the tensors"
            )
