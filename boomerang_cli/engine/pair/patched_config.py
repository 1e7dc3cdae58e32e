"""A patched model as a student: the layers that its layers stand for, and the order that remains."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.order import Order, find_order
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.pair.student_config import StudentConfig


def patched_config(pair: Pair, patched: Collection[int], order: Order) -> StudentConfig:
    """Return what the model in which the blocks in ``patched`` are the teacher's records of itself as a student.

    It keeps the teacher layers of all its layers. So a patched block falls apart into blocks of one layer, which are
    patched no more, and n is smaller by k; the other blocks are those of the student. Patching it by the order that
    remains gives the same models as patching the student by the whole order: a one-layer block that is the teacher's
    here follows a block that is patched in both, and one that is the student's has the same patchable neighbours.

    Args:
        order: by which it was patched, or would be: what remains of it is recorded. Of sets that are not nested nothing
            remains, and what the student itself records or its family's does.
    """
    before = pair.layer_map
    layer_map = LayerMap(before.teacher_layers, tuple(source.teacher_layer for source in before.sources(patched)))
    if order.sequence is None:
        order = find_order("auto", before, pair.student_config.order, pair.family.order)
    return replace(
        pair.student_config,
        layer_map=layer_map,
        teacher=pair.teacher.name,
        teacher_revision=pair.teacher.revision,
        order=_remaining(order, before, layer_map),
        trained_elsewhere=pair.student_config.is_of_other_tools,  # else the teacher's name would say that it was not
    )


def _remaining(order: Order, before: LayerMap, layer_map: LayerMap) -> str | Sequence[int]:
    if order.name in ("first", "last"):
        return order.name
    places = {layer: place for place, layer in enumerate(layer_map.kept)}
    blocks = (places[before.kept[block]] for block in order.sequence or ())
    return [block for block in blocks if block in layer_map.patchable]
