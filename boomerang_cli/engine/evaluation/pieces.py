"""What is to be scored, cut for several processes: by windows, and by models where there are fewer batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from boomerang_cli.engine.evaluation.stages import place_in_tree
from boomerang_cli.engine.evaluation.variants import Variant
from boomerang_cli.engine.pair.layers import LayerMap


class Piece(NamedTuple):
    """Windows of one batch, and the models that are scored on them together."""

    rows: range
    variants: Sequence[Variant]


def cut(batches: Sequence[Piece], processes: int, layer_map: LayerMap) -> list[Piece]:
    """Return pieces, one a process at most.

    As many batches are as many pieces: no layer is run twice. Of fewer batches each is scored by several processes: its
    models, as leaves of the tree that they are walked as, are cut to runs of neighbours, which share prefixes.
    """
    pieces = []
    for process in range(processes):
        part, batch = divmod(process, len(batches))
        rows, variants = batches[batch]
        parts = len(range(batch, processes, len(batches)))
        if parts > 1:
            variants = sorted(variants, key=lambda variant: place_in_tree(variant.steps(layer_map)))
        first, last = (len(variants) * each // parts for each in (part, part + 1))
        if first < last:
            pieces.append(Piece(rows, variants[first:last]))
    return pieces
