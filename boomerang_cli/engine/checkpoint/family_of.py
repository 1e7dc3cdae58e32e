"""The family of a checkpoint: from the tables, or derived on the spot."""

from __future__ import annotations

from collections.abc import Callable

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.family_list import nearest_types
from boomerang_cli.engine.checkpoint.family_table import known_family
from boomerang_cli.engine.checkpoint.foreign import refuse_quantised
from boomerang_cli.engine.errors import UnsupportedModelError

DerivedCallback = Callable[[str, str], None]
"""Called with a model's name and its type, which is in no table."""
on_derived: DerivedCallback | None = None
"""Who wants to hear of a family that was derived, and never compared with the whole model."""


def family_of(checkpoint: Checkpoint) -> Family:
    """Return the family of a checkpoint; torch and transformers are imported for a type that is in no table.

    Raises:
        UnsupportedModelError: layers of the type cannot be moved, or it is not known how; says why.
    """
    if (family := known_family(checkpoint.config, checkpoint.name)) is not None:
        return family
    from boomerang_cli.engine.checkpoint.derivation.derive import derive
    from boomerang_cli.engine.checkpoint.derivation.refusal import NotDerivableError
    from boomerang_cli.engine.quiet import quiet_transformers

    refuse_quantised(checkpoint.tensors, checkpoint.config, checkpoint.files, checkpoint.name)
    model_type = checkpoint.config["model_type"]
    try:
        with quiet_transformers():
            family = derive(checkpoint.config, list(checkpoint.tensors))
    except NotDerivableError as error:
        raise UnsupportedModelError(
            f"{checkpoint.name}: unknown model_type {model_type!r}: {error} ({_way_out(model_type)})"
        ) from None
    if on_derived is not None:
        on_derived(checkpoint.name, model_type)
    return family


def _way_out(model_type: str) -> str:
    near = nearest_types(model_type)
    nearest = f"nearest: {', '.join(near)}; " if near else ""
    return f"{nearest}`boomerang families` lists the types that work"
