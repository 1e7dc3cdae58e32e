"""Scoring in several processes, each with the whole pair: windows are shared out, and models where windows are few."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.evaluation.paired import WindowSums
from boomerang_cli.engine.evaluation.scoring import Scorer
from boomerang_cli.engine.evaluation.search_cost import SearchCost, fit_search
from boomerang_cli.engine.evaluation.set_tree import SetTree
from boomerang_cli.engine.evaluation.stages import place_in_tree
from boomerang_cli.engine.evaluation.variants import Variant
from boomerang_cli.engine.evaluation.windows import Windows
from boomerang_cli.engine.models.compose import LoadedPair
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.processes.group import decide, processes
from boomerang_cli.engine.processes.spread import spread

Sums = Mapping[Variant, Sequence[WindowSums]]


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


class SharedScorer:
    """What a ``Scorer`` of each process scores, known in all of them.

    A batch has the same windows however many processes there are, and each window's sums come from one of them: the
    numbers are those of one process.
    """

    def __init__(self, loaded: LoadedPair, *, batch_size: int | None = None) -> None:
        self._scorer = Scorer(loaded, batch_size=batch_size)

    def batches(self, windows: Windows) -> Iterator[range]:
        """Yield the windows of one batch after another, at most one a process before they are scored."""
        return self._scorer.batches(windows)

    def score(
        self,
        batches: Sequence[Piece],
        windows: Windows,
        tell: Callable[[float], None] = lambda share: None,
        *,
        kl_alone: bool = False,
    ) -> Iterator[tuple[Piece, Sums]]:
        """Score some batches, and yield them in pieces, each with the sums of its windows.

        Args:
            tell: called with the share that is done, as far as this process knows.
            kl_alone: see ``Scorer.score``.

        Raises:
            ScoringError: see ``Scorer.score``; or a score is no number, as half precision can make it.
        """

        def work(piece: Piece) -> tuple[Sums, int | None]:
            def tell_share(models: int) -> None:
                tell(models / len(piece.variants))

            sums = self._scorer.score(piece.variants, windows, piece.rows, tell_share, kl_alone=kl_alone)
            return sums, self._scorer.batch_size

        fitting = []
        for piece, (sums, batch_size) in spread(cut(batches, processes(), self._scorer.layer_map), work):
            _check_finite(sums)
            fitting.append(batch_size)
            yield piece, sums
        self._scorer.batch_size = min((size for size in fitting if size), default=None)  # it fits everywhere

    def fit_search(self, tree: SetTree, windows: Windows) -> SearchCost:
        """Measure at rank 0 what it takes to score all sets of a tree (errors as in ``search_cost.fit_search``)."""

        def fit() -> tuple[SearchCost, int | None]:
            return fit_search(self._scorer, tree, windows), self._scorer.batch_size

        cost, self._scorer.batch_size = decide(fit)
        return replace(cost, seconds=cost.seconds / processes())


def _check_finite(found: Sums) -> None:
    for variant, windows in found.items():
        if not all(math.isfinite(value) for sums in windows for value in sums):
            raise ScoringError(
                f"the model with the blocks {variant.key} patched gives scores that are no numbers: "
                "give --dtype float32"
            )
