"""What a card says of programs with code of their own: whether they read the model as transformers does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from boomerang_cli.engine.checkpoint.readers import LLAMA_CPP, MLX, is_portable, misreaders


def told_of_readers(config: Mapping[str, Any]) -> str:
    """Return what programs suppose of the model of a ``config.json`` and is not so; nothing where there is nothing."""
    known = misreaders(config)
    if not known:
        return ""
    portable = f"Portable to {LLAMA_CPP} and {MLX}. " if is_portable(config) else "Not portable. "
    return (
        f"{portable}{supposed(known)}: not so in this model, which they refuse or misread, and transformers does not."
    )


def supposed(known: Mapping[str, tuple[str, ...]]) -> str:
    """Return who supposes what, such as ``llama.cpp and MLX LM suppose that every 6th layer is full_attention``."""
    return "; ".join(
        f"{_listed(programs)} {'suppose' if len(set(programs)) > 1 else 'supposes'} that {what}"
        for what, programs in known.items()
    )


def _listed(programs: tuple[str, ...]) -> str:
    *most, last = dict.fromkeys(programs)
    return f"{', '.join(most)} and {last}" if most else last
