"""What ``config.json`` of a model says of its tensors: whether it is tied, and their dtype."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from boomerang_cli.engine.checkpoint.dtypes import CONFIG_NAMES
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.ties import is_tied
from boomerang_cli.engine.errors import UnsupportedModelError


def written_config(
    config: dict[str, Any], family: Family, *, tied: bool, sizes: Mapping[str, int], converts: bool
) -> dict[str, Any]:
    """Return ``config.json`` of a model: whether it is tied, and the dtype of most bytes.

    Args:
        config: of the model's layers.
        sizes: the bytes of its tensors by their dtype, as safetensors names it.
        converts: whether some had another dtype.

    Raises:
        UnsupportedModelError: no tensor holds floating-point numbers.
    """
    sizes = {dtype: size for dtype, size in sizes.items() if dtype in CONFIG_NAMES}
    if is_tied(config, family) != tied and family.wrapper:  # some readers go by the text model's part alone
        text = {**family.text_config(config), "tie_word_embeddings": tied}
        config = family.wrapper.with_text_config(config, text)
    if is_tied(config, family) != tied or "tie_word_embeddings" not in config:
        config["tie_word_embeddings"] = tied
    if not sizes:
        raise UnsupportedModelError("none of the tensors holds floating-point numbers")
    for key in [key for key in ("dtype", "torch_dtype") if key in config] or ["torch_dtype"]:  # two names of one value
        config[key] = CONFIG_NAMES[max(sorted(sizes), key=lambda dtype: sizes[dtype])]
    if family.wrapper and converts:
        return {field: _with_dtype(value, config) for field, value in config.items()}
    return config


def _with_dtype(part: Any, config: Mapping[str, Any]) -> Any:
    """Return a part of a multimodal model's configuration with the dtype of the whole, where it names one."""
    if not isinstance(part, dict):
        return part
    dtype = config.get("torch_dtype") or config["dtype"]
    return {key: dtype if key in ("dtype", "torch_dtype") and value else value for key, value in part.items()}
