"""Orders found on a loaded pair: what ``greedy``, ``exact`` and ``nested`` mean to a sweep."""

from __future__ import annotations

from collections.abc import Iterable

from boomerang_cli.engine.errors import ScoringError, SelectionError
from boomerang_cli.engine.evaluation.evaluation import Evaluation
from boomerang_cli.engine.evaluation.orders import Blocks, every_subset, exact, greedy, nested
from boomerang_cli.engine.evaluation.windows import Windows
from boomerang_cli.engine.pair.order import Order

REACH_SECONDS = 1800
"""A search that takes longer is started only if the user says so."""
MOST_EXACT_BLOCKS = 20
"""A million sets: more do not fit into the memory of the search."""
_BEAM = "try --order greedy --beam 8"


def search_orders(
    names: Iterable[str], blocks: Blocks, evaluation: Evaluation, windows: Windows, *, beam: int = 1, yes: bool = False
) -> dict[str, Order]:
    """Return the orders of these names by their KL to the teacher on ``windows``.

    Args:
        blocks: the patchable ones.
        beam: how many sets of each size ``greedy`` goes on from.
        yes: search however long it takes.

    Raises:
        SelectionError: more blocks than every subset of them can be scored.
        ScoringError: the search would take too long; says about how long.
    """
    found: dict[str, Order] = {}
    wanted = set(names)
    if wanted & {"exact", "nested"}:  # first of all: greedy finds what it needs among the scores of all sets
        _check_number(blocks)
        subsets = every_subset(blocks)
        if not yes and not evaluation.knows(subsets, windows):
            _check_reach(blocks, evaluation, windows)
        distances = evaluation.distances(subsets, windows, f"Searching exact, {len(subsets)} sets")
        found |= {"exact": exact(blocks, distances), "nested": nested(blocks, distances)}
    if "greedy" in wanted:

        def score_candidates(sets: Iterable[Blocks]) -> dict[Blocks, float]:
            candidates = list(sets)
            stage = f"Searching greedy, size {len(candidates[0])} of {len(blocks)}"
            return evaluation.distances(candidates, windows, stage)

        found["greedy"] = greedy(blocks, score_candidates, beam=beam)
    return {name: order for name, order in found.items() if name in wanted}


def _check_number(blocks: Blocks) -> None:
    if len(blocks) > MOST_EXACT_BLOCKS:
        raise SelectionError(
            f"--order exact scores every subset of {len(blocks)} blocks, and is made for {MOST_EXACT_BLOCKS} at most: "
            f"{_BEAM}"
        )


def _check_reach(blocks: Blocks, evaluation: Evaluation, windows: Windows) -> None:
    seconds = evaluation.estimate_exact_seconds(windows)
    if seconds > REACH_SECONDS:
        raise ScoringError(
            f"--order exact scores {2 ** len(blocks):,} sets of blocks on {len(windows)} windows, about "
            f"{show_duration(seconds)} on this device: --yes starts it, fewer --calibration-sequences shorten it, or "
            f"{_BEAM}"
        )


def show_duration(seconds: float) -> str:
    """Return a duration for people: ``50 minutes``, ``14 hours``."""
    for unit, name in ((86_400 * 365, "years"), (86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} seconds"
