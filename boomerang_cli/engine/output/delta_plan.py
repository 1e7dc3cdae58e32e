"""The plan of a student with a weight delta: its teacher's layers, and what distilling made of others like them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.files import RemoteFile
from boomerang_cli.engine.checkpoint.parts import Parts
from boomerang_cli.engine.checkpoint.same_bytes import hold_the_same
from boomerang_cli.engine.checkpoint.tensors import Tensor
from boomerang_cli.engine.output.difference import Difference
from boomerang_cli.engine.output.plan import Plan
from boomerang_cli.engine.output.shards import Copy
from boomerang_cli.engine.pair.delta import Delta


@dataclass(frozen=True)
class DeltaTensors:
    """The tensors of a delta by their names in the output: those of the student, and those it began as."""

    changed: Mapping[str, Tensor]
    base: Mapping[str, Tensor]

    @classmethod
    def of(cls, delta: Delta) -> DeltaTensors:
        """Take them from a student and its base; of a tied model the head is its embedding."""
        family, parts = delta.pair.family, delta.pair.parts
        kept = kept_of(parts["teacher"], delta)
        return cls(parts["student"].untied(family).named(family), kept.untied(family).named(family))


def kept_of(teacher: Parts, delta: Delta) -> Parts:
    """Return a teacher's parts with the layers alone that the delta's student keeps."""
    return replace(teacher, layers=tuple(teacher.layers[layer] for layer in delta.layer_map.kept))


def teacher_parts(teacher: Parts, family: Family, delta: Delta) -> Parts:
    """Return a teacher's parts as a delta needs them: with a head of its own unless all three models are tied.

    Where one of them is not, embedding and head differ once the delta is added, as they do in a patched model. A delta
    of scale 0 adds nothing, and leaves the teacher as it is.
    """
    tied = all(parts.tied for parts in delta.pair.parts.values())
    return teacher if tied or delta.scale == 0 else teacher.untied(family)


def add_delta(plan: Plan, delta: Delta) -> Plan:
    """Return the plan of a teacher's undistilled student with the delta added to each tensor of floating-point numbers.

    Nothing is computed where nothing has to be: with scale 0 the tensors are the teacher's. Those that the teacher and
    the base share, because they are one model or hold the same bytes on this disk, become the delta's student's with
    scale 1: ``a + (b - a)`` would be b but for rounding.
    """
    if delta.scale == 0:
        return plan
    tensors = DeltaTensors.of(delta)
    shards = tuple(
        replace(shard, copies=tuple(_with_delta(copy, tensors, delta.scale) for copy in shard.copies))
        for shard in plan.shards
    )
    added = replace(plan, shards=shards)
    inputs = {tensor for copy in added.copies for tensor in copy.inputs}
    presumed = dict.fromkeys([*plan.presumed, *(each.presumed for each in delta.pair.parts.values() if each.presumed)])
    return replace(added, presumed=tuple(two for two in presumed if two[0] in inputs))


def _with_delta(copy: Copy, tensors: DeltaTensors, scale: float) -> Copy:
    if not copy.source.is_float:
        return copy
    changed, base = tensors.changed[copy.name], tensors.base[copy.name]
    if scale == 1 and _are_the_same(copy.source, base):
        return replace(copy, owner="student", source=changed)
    return replace(copy, added=Difference(changed, base, scale))


def _are_the_same(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors are known to hold the same; those of the Hub are not fetched to find out."""
    if isinstance(one.file, RemoteFile) or isinstance(other.file, RemoteFile):
        return _place(one) == _place(other)
    return (one.file, one.start) == (other.file, other.start) or hold_the_same(one, other)


def _place(tensor: Tensor) -> tuple[object, ...]:
    """Where a tensor lies, by its commit on the Hub, which is one whatever a repository is called."""
    if isinstance(tensor.file, RemoteFile):
        return tensor.file.commit, tensor.file.name, tensor.start
    return tensor.file.path, tensor.start
