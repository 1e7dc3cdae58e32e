"""Which of a teacher's layers a new student copies: named outright, or by the family's rule."""

from __future__ import annotations

from collections.abc import Sequence

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.errors import SelectionError
from boomerang_cli.engine.pair.layers import LayerMap, default_kept_layers


def choose_layers(
    teacher: Checkpoint,
    family: Family,
    *,
    every: int,
    keep_first: int | None,
    keep_last: int | None,
    keep: Sequence[int] | None,
) -> LayerMap:
    """Return which layers are kept.

    Args:
        every, keep_first, keep_last: see ``layers.default_kept_layers``; None is the family's number.
        keep: the kept layers outright.

    Raises:
        SelectionError: layers that the teacher does not have, or a rule that drops none.
    """
    depth = family.teacher_depth(teacher.config)
    if keep is not None:
        return LayerMap(depth, tuple(keep))
    first = family.keep_first if keep_first is None else keep_first
    last = family.keep_last if keep_last is None else keep_last
    layer_map = LayerMap(depth, default_kept_layers(depth, every=every, keep_first=first, keep_last=last))
    if not layer_map.patchable:
        raise SelectionError(
            f"--every {every}, --keep-first {first}, --keep-last {last} drop none of the {depth} layers "
            f"of {teacher.name}: give smaller numbers, or --keep"
        )
    return layer_map
