"""What a model's files hold and the model does not: patterns of the names of tensors that are passed over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from boomerang_cli.engine.checkpoint.derivation.blank_model import Names
from boomerang_cli.engine.checkpoint.derivation.refusal import NotDerivableError
from boomerang_cli.engine.checkpoint.families import ENCODERS, UNREAD


def unread(names: Names) -> tuple[str, ...]:
    """Return the patterns of what no model reads, but for those that this model has tensors of."""
    return tuple(each for each in UNREAD if not any(re.search(each, name) for name in names.known))


def unused_heads(config: Mapping[str, Any], base: str, head: str) -> tuple[str, ...]:
    """Return what files of an encoder hold beside the head of masked words: heads that were trained with it."""
    if config.get("model_type") not in ENCODERS:
        return ()
    return (f"{base}pooler.", *(("cls.seq_relationship.",) if head.startswith("cls.") else ()))


def passed_over(model: Any, modules: Mapping[str, str], names: Names) -> list[str]:
    """Return patterns of tensors that files hold beside the model's own, which its class says to pass over.

    Raises:
        NotDerivableError: a tensor that it does not say that of.
    """
    patterns = tuple(getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ())
    dropped = set()
    for name, module in modules.items():
        if module in names.known or any(re.search(each, name) for each in UNREAD):
            continue
        if not any(re.search(pattern, name) for pattern in patterns):
            raise NotDerivableError(f"{name} is no tensor of the model")
        dropped.add(re.sub(r"\\\.\d+\\\.", r"\\.\\d+\\.", f"^{re.escape(name)}$"))
    return sorted(dropped)


def prediction_layers(model: Any) -> list[str]:
    """Return the patterns of layers that predict several tokens at once: files hold them, and the class has none."""
    return [each for each in getattr(model, "_keys_to_ignore_on_load_unexpected", None) or () if "mtp" in each]
