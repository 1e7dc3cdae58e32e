"""Which of a teacher's layers a new student copies: named outright, or by the family's rule."""

from __future__ import annotations

from collections.abc import Sequence

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.layer_kinds import check_attention_kept
from boomerang_cli.engine.errors import SelectionError
from boomerang_cli.engine.pair.layer_mix import layers_in_mix, period_of
from boomerang_cli.engine.pair.layers import LayerMap, default_kept_layers


def choose_layers(
    teacher: Checkpoint,
    family: Family,
    kinds: Sequence[str],
    *,
    every: int,
    keep_first: int | None,
    keep_last: int | None,
    keep: Sequence[int] | None,
    keep_period: bool = False,
) -> LayerMap:
    """Return which layers are kept.

    Args:
        kinds: the kind of each of the teacher's layers.
        every, keep_first, keep_last: see ``layer_mix.layers_in_mix``; None is the family's number.
        keep: the kept layers outright.
        keep_period: drop whole periods of the kinds.

    Raises:
        SelectionError: layers that the teacher does not have, a rule or a list that drops none, a teacher without a
            period, or a hybrid one's layers without attention.
    """
    if keep is not None:
        layer_map = LayerMap(len(kinds), tuple(keep))
        if not layer_map.patchable:
            raise SelectionError(
                f"--keep {','.join(map(str, keep))} keeps all {len(kinds)} layers of {teacher.name}: it would be the "
                "same model from embedding to head, with no block to patch, so leave some of them out"
            )
    else:
        layer_map = _by_rule(teacher, family, kinds, every, keep_first, keep_last, keep_period)
    check_attention_kept(teacher.config, family, layer_map.kept, teacher.name)
    return layer_map


def _by_rule(
    teacher: Checkpoint,
    family: Family,
    kinds: Sequence[str],
    every: int,
    keep_first: int | None,
    keep_last: int | None,
    keep_period: bool,
) -> LayerMap:
    first = family.keep_first if keep_first is None else keep_first
    if keep_first is None and family.wrapper:
        first = max(first, family.wrapper.reached_layers(teacher.config, teacher.name))
    last = family.keep_last if keep_last is None else keep_last
    numbers, period = {"every": every, "keep_first": first, "keep_last": last}, ""
    if keep_period:
        period = f" in periods of {_period(teacher, kinds)}"
        kept = default_kept_layers(len(kinds), **numbers, period=period_of(kinds))
    else:
        kept = layers_in_mix(kinds, **numbers)
    layer_map = LayerMap(len(kinds), kept)
    if not layer_map.patchable:
        raise SelectionError(
            f"--every {every}, --keep-first {first}, --keep-last {last} drop none of the {len(kinds)} layers "
            f"of {teacher.name}{period}: give smaller numbers, or --keep"
        )
    return layer_map


def _period(teacher: Checkpoint, kinds: Sequence[str]) -> int:
    """Return a teacher's period.

    Raises:
        SelectionError: it has none.
    """
    if (period := period_of(kinds)) == 1:
        alike = "all of one kind" if len(set(kinds)) == 1 else "of kinds that follow no period"
        raise SelectionError(f"--keep-period: the layers of {teacher.name} are {alike}, leave it out")
    return period
