"""Which of a teacher's layers a new student copies: named outright, or by the family's rule."""

from __future__ import annotations

from collections.abc import Sequence

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.layer_kinds import check_attention_kept
from boomerang_cli.engine.errors import SelectionError
from boomerang_cli.engine.pair.layer_mix import layers_in_mix
from boomerang_cli.engine.pair.layers import LayerMap


def choose_layers(
    teacher: Checkpoint,
    family: Family,
    kinds: Sequence[str],
    *,
    every: int,
    keep_first: int | None,
    keep_last: int | None,
    keep: Sequence[int] | None,
) -> LayerMap:
    """Return which layers are kept.

    Args:
        kinds: the kind of each of the teacher's layers.
        every, keep_first, keep_last: see ``layer_mix.layers_in_mix``; None is the family's number.
        keep: the kept layers outright.

    Raises:
        SelectionError: layers that the teacher does not have, a rule that drops none, or a hybrid teacher's layers
            without attention.
    """
    if keep is not None:
        layer_map = LayerMap(len(kinds), tuple(keep))
    else:
        layer_map = _by_rule(teacher, family, kinds, every, keep_first, keep_last)
    check_attention_kept(teacher.config, family, layer_map.kept, teacher.name)
    return layer_map


def _by_rule(
    teacher: Checkpoint,
    family: Family,
    kinds: Sequence[str],
    every: int,
    keep_first: int | None,
    keep_last: int | None,
) -> LayerMap:
    first = family.keep_first if keep_first is None else keep_first
    if keep_first is None and family.wrapper:
        first = max(first, family.wrapper.reached_layers(teacher.config, teacher.name))
    last = family.keep_last if keep_last is None else keep_last
    layer_map = LayerMap(len(kinds), layers_in_mix(kinds, every=every, keep_first=first, keep_last=last))
    if not layer_map.patchable:
        raise SelectionError(
            f"--every {every}, --keep-first {first}, --keep-last {last} drop none of the {len(kinds)} layers "
            f"of {teacher.name}: give smaller numbers, or --keep"
        )
    return layer_map
