"""A planned model as its class would build it: each layer must be what its origin is in the whole teacher.

The table of families says how a configuration follows the layers; this asks transformers whether that is so, with
every plan, where it can be imported anyway. Nothing but the configurations is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
from boomerang_cli.engine.checkpoint.derivation.blank_model import build
from boomerang_cli.engine.checkpoint.derivation.guards import check_layers
from boomerang_cli.engine.checkpoint.derivation.refusal import NotDerivableError
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.errors import UnsupportedModelError
from boomerang_cli.engine.models.hidden_states import layers_prefix
from boomerang_cli.engine.output.plan import Plan


def check_plans(plans: Iterable[Plan], teacher: Checkpoint, family: Family) -> None:
    """Compare the layers of planned models with their origins in the teacher: classes, plain values, tensors' shapes.

    A quarter of a second a plan of 36 layers; plans of the same layers are one.

    Raises:
        UnsupportedModelError: the first layer that would be another, and in what.
    """
    configs = {tuple(source.teacher_layer for source in plan.sources): plan.config for plan in plans}
    for layers, config in configs.items():
        _check(layers, config, teacher, family)


def _check(layers: Sequence[int], config: Mapping[str, Any], teacher: Checkpoint, family: Family) -> None:
    try:
        stack = _stack(json.dumps(teacher.config), family)
        check_layers(teacher.config, config, family, stack, layers)
    except NotDerivableError as error:
        raise UnsupportedModelError(
            f"{teacher.name}: a model of its layers {','.join(map(str, layers))} would not be what they are: "
            f"{error}: choose another size, or other layers with --keep"
        ) from None


@lru_cache(maxsize=1)
def _stack(config: str, family: Family) -> str:
    """Return what stands before the layers' numbers in the modules' names."""
    try:
        model = build(json.loads(config))
    except Exception as error:  # whatever a class raises for values that it does not expect
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NotDerivableError(f"transformers cannot build the teacher ({reason[:120]})") from None
    return layers_prefix(model, family.teacher_depth(json.loads(config)))
