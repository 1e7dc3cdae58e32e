"""Which model of a pair a user asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from boomerang_cli.engine.errors import SelectionError, check_least
from boomerang_cli.engine.pair.bounds import Bound
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.order import Order


@dataclass(frozen=True)
class Selection:
    """Which model of a pair a user asked for: one outright, in one of three ways, or by bounds.

    Attributes:
        layers: k.
        depth: the number of layers.
        blocks: the patched blocks outright.
        bounds: that the model keeps to, one or more.

    Raises:
        SelectionError: none of them, or more than one.
    """

    layers: int | None = None
    depth: int | None = None
    blocks: Sequence[int] | None = None
    bounds: tuple[Bound, ...] = ()

    def __post_init__(self) -> None:
        check_least(0, SelectionError, layers=self.layers)
        check_least(1, SelectionError, depth=self.depth)
        outright = {"--layers": self.layers, "--depth": self.depth, "--blocks": self.blocks}
        given = [flag for flag, value in outright.items() if value is not None]
        given += [self.bounds[0].flag.split()[0]] if self.bounds else []
        if len(given) != 1:
            what = f"{' and '.join(given)} exclude one another" if given else "no size was asked for"
            raise SelectionError(
                f"{what}: give one of --layers, --depth, --blocks, or bounds: --params, --size, --memory, --max-kl, "
                "--max-perplexity, --min-top1, --min-speed",
                usage=True,
            )

    def outright(self, order: Order, layer_map: LayerMap) -> tuple[int, ...] | None:
        """Return the blocks to patch, ascending; None where bounds decide.

        Raises:
            SelectionError: the pair has no such model; says which it has.
        """
        if self.blocks is not None:
            return layer_map.check_blocks(self.blocks)
        depths = {len(layer_map.sources(blocks)): blocks for blocks in reversed(order.sets)}
        if self.layers is not None:
            if self.layers >= len(order.sets) and self.layers in depths:
                raise SelectionError(
                    f"--layers {self.layers} counts blocks, and this pair has {len(order.sets) - 1} to patch: did you "
                    f"mean --depth {self.layers}?"
                )
            return order.blocks(self.layers)
        if self.depth is None:
            return None
        if self.depth not in depths:
            listed = ", ".join(map(str, sorted(depths)))
            meant = f": did you mean --layers {self.depth}?" if 0 <= self.depth < len(order.sets) else ""
            raise SelectionError(f"--depth {self.depth} is no size of this pair: it has {listed} layers{meant}")
        return depths[self.depth]
