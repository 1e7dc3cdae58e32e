"""The models that a sweep compares: which blocks are patched, and whether the rest was distilled."""

from __future__ import annotations

from dataclasses import dataclass

from boomerang_cli.engine.pair.layers import LayerMap, LayerSource


@dataclass(frozen=True)
class Variant:
    """One model of a pair.

    Attributes:
        blocks: the patched ones, ascending.
        distilled: False has the teacher's own layer in place of each layer of the student: naive pruning, which is
            what a student is before its distillation. With all blocks patched, that is the teacher.
    """

    blocks: tuple[int, ...]
    distilled: bool = True

    @property
    def key(self) -> str:
        """Its name in a sweep's records: ``3,7``, ``none``, ``none undistilled``."""
        return (",".join(map(str, self.blocks)) or "none") + ("" if self.distilled else " undistilled")

    def steps(self, layer_map: LayerMap) -> tuple[tuple[LayerSource, ...], ...]:
        """Return where its layers come from, block by block."""
        steps = layer_map.steps(self.blocks)
        if self.distilled:
            return steps
        copied = ([source.teacher_layer for source in step] for step in steps)
        return tuple(tuple(LayerSource("teacher", layer, layer) for layer in layers) for layers in copied)

    def sources(self, layer_map: LayerMap) -> tuple[LayerSource, ...]:
        """Return where its layers come from."""
        return tuple(source for step in self.steps(layer_map) for source in step)
