"""The sizes that a student and its teacher give, from headers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.layer_kinds import layer_kinds
from boomerang_cli.engine.checkpoint.parts import Parts, check_layers_alike
from boomerang_cli.engine.output.plan import plan_model
from boomerang_cli.engine.output.planner import Planner
from boomerang_cli.engine.pair.kept_layers import choose_layers
from boomerang_cli.engine.pair.layers import LayerMap, LayerSource
from boomerang_cli.engine.pair.order import Order, find_order
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.pair.student_config import StudentConfig


@dataclass(frozen=True)
class Size:
    """A model that can be had.

    Attributes:
        layers: k, the number of patched blocks.
        depth: the number of layers.
        parameters, bytes: as ``patch`` would write it; None where that is not known.
        scores: what a sweep found out of it, by name; empty where none did.
    """

    layers: int
    depth: int
    parameters: int | None
    bytes: int | None
    patched_blocks: tuple[int, ...]
    scores: Mapping[str, float] = field(default_factory=dict)


def own_order(recorded: StudentConfig, family: Family) -> Order:
    """Return the order that ``patch`` takes by itself."""
    return find_order("auto", recorded.layer_map, recorded.order, family.order)


def sizes_of(pair: Pair, order: Order | None = None) -> tuple[Size, ...]:
    """Return every size of a pair, the student first (errors as in :class:`Planner`).

    Args:
        order: None is the pair's own.
    """
    planner, sizes = Planner(pair), []
    for k, blocks in enumerate((order or own_order(pair.student_config, pair.family)).sets):
        sizes.append(Size(k, len(pair.layer_map.sources(blocks)), *planner.weigh(blocks), blocks))
    return tuple(sizes)


def depths_of(recorded: StudentConfig, family: Family) -> tuple[Size, ...]:
    """Return the same without a teacher: how many layers each size has."""
    sets = own_order(recorded, family).sets
    return tuple(Size(k, len(recorded.layer_map.sources(each)), None, None, each) for k, each in enumerate(sets))


def with_own_layers(teacher: Checkpoint, family: Family, parts: Parts) -> Pair:
    """Return the pair of a teacher and the student that ``init-student`` makes of it by itself.

    Raises:
        SelectionError: no layer would be dropped.
        CheckpointError, UnsupportedModelError: its layers cannot be moved.
    """
    check_layers_alike(teacher, family, parts)
    kinds = layer_kinds(teacher.config, family, teacher.name)
    layer_map = choose_layers(teacher, family, kinds, every=2, keep_first=None, keep_last=None, keep=None)
    student = _selection(teacher, family, parts, layer_map)
    return Pair(student, teacher, family, StudentConfig(layer_map, teacher.name, teacher.revision))


def _selection(teacher: Checkpoint, family: Family, parts: Parts, layer_map: LayerMap) -> Checkpoint:
    plan = plan_model(
        [LayerSource("teacher", layer, layer) for layer in layer_map.kept],
        teacher=teacher,
        family=family,
        parts={"teacher": parts},
        dtype=None,
        max_shard_bytes=parts.size_bytes,
        ends=("teacher", "teacher"),
    )
    tensors = {copy.name: replace(copy.source, name=copy.name) for copy in plan.copies}
    return replace(teacher, config=dict(plan.config), tensors=tensors)
