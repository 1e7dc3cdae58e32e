"""Orders found on a loaded pair: what ``greedy``, ``exact`` and ``nested`` mean to a sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf, isinf

from boomerang_cli.engine.errors import ScoringError, SelectionError
from boomerang_cli.engine.evaluation.evaluation import Evaluation
from boomerang_cli.engine.evaluation.orders import Blocks, exact, greedy, nested
from boomerang_cli.engine.evaluation.set_search import SetSearch
from boomerang_cli.engine.evaluation.set_tree import SetTree
from boomerang_cli.engine.evaluation.windows import Windows
from boomerang_cli.engine.pair.order import Order
from boomerang_cli.engine.sizes import show_bytes, show_duration

REACH_SECONDS = 1800
"""A search that takes longer is started only if the user says so."""
MOST_EXACT_BLOCKS = 20
"""A million sets: more take weeks."""
PRUNED_FROM = 9
"""From so many blocks on, sets that can win no more are given up. Of fewer, all distances are found, greedy's too."""
_BEAM = "try --order greedy --beam 8"


def search_orders(
    names: Iterable[str],
    blocks: Blocks,
    evaluation: Evaluation,
    windows: Windows,
    *,
    beam: int = 1,
    yes: bool = False,
    on_note: Callable[[str], None] = lambda note: None,
) -> dict[str, Order]:
    """Return the orders of these names by their KL to the teacher on ``windows``.

    Args:
        blocks: the patchable ones.
        beam: how many sets of each size ``greedy`` goes on from.
        yes: search however long it takes.
        on_note: called with what the search of all sets takes, before it begins.

    Raises:
        SelectionError: more blocks than every subset of them can be scored.
        ScoringError: the search would take too long, or too much memory; says about how much.
    """
    found: dict[str, Order] = {}
    wanted = set(names)
    search: SetSearch | None = None  # it has room for all sets, of which greedy alone needs few
    if wanted & {"exact", "nested"}:
        _check_number(blocks)
        search = SetSearch(SetTree(blocks), evaluation, windows)

    def score(sets: Iterable[Blocks]) -> dict[Blocks, float]:
        candidates = list(sets)
        stage = f"Searching greedy, size {len(candidates[0])} of {len(blocks)}"
        if search is None:
            return evaluation.distances(candidates, windows, stage)
        unknown = [each for each in candidates if isinf(search.found[each])]
        for each, distance in evaluation.distances(unknown, windows, stage).items() if unknown else ():
            search.found.add(each, distance)
        return {each: search.found[each] for each in candidates}

    if search is not None:
        if not search.is_done:
            _tell_cost(search.tree, evaluation, windows, yes=yes, on_note=on_note)
        if len(blocks) >= PRUNED_FROM:  # good sets early: what is farther from the teacher is given up
            found["greedy"] = greedy(blocks, score, beam=beam)
        found |= _search_all(search, evaluation, nested_too="nested" in wanted)
    if "greedy" in wanted - found.keys():
        found["greedy"] = greedy(blocks, score, beam=beam)
    return {name: order for name, order in found.items() if name in wanted}


def _search_all(search: SetSearch, evaluation: Evaluation, *, nested_too: bool) -> dict[str, Order]:
    """Return ``exact``, and ``nested`` if it is asked for.

    The distances on the path of ``nested`` sum up to no more than those on any other path that is known. So none of
    them is farther from the closest set of its size than that sum is from the sum of all the closest.
    """
    blocks, roots = search.tree.blocks, search.tree.roots
    stage = f"Searching exact, {2 ** len(blocks):,} sets"
    prunes = len(blocks) >= PRUNED_FROM
    search.search(roots, 0.0 if prunes else inf, lambda done, total: evaluation.tell(stage, done, total))
    orders = {"exact": exact(blocks, search.found)}
    if nested_too:
        path = sum(search.found[each] for each in nested(blocks, search.found).sets[1:])
        slack = path - sum(search.found.closest[1:])
        stage = "Searching nested, the sets that may be on its way"
        search.search(roots, slack, lambda done, total: evaluation.tell(stage, done, total))
        orders["nested"] = nested(blocks, search.found)
    return orders


def _check_number(blocks: Blocks) -> None:
    if len(blocks) > MOST_EXACT_BLOCKS:
        raise SelectionError(
            f"--order exact scores every subset of {len(blocks)} blocks, and is made for {MOST_EXACT_BLOCKS} at most: "
            f"{_BEAM}"
        )


def _tell_cost(
    tree: SetTree, evaluation: Evaluation, windows: Windows, *, yes: bool, on_note: Callable[[str], None]
) -> None:
    cost = evaluation.fit_search(tree, windows)
    work = f"{2 ** len(tree.blocks):,} sets of blocks on {len(windows)} windows"
    if cost.seconds > REACH_SECONDS and not yes:
        raise ScoringError(
            f"--order exact scores {work}, about {show_duration(cost.seconds)} on this device: --yes starts it, fewer "
            f"--calibration-sequences shorten it, or {_BEAM}"
        )
    on_note(
        f"searching {work}, {cost.windows_at_once} at once: at most about {show_duration(cost.seconds)}, and "
        f"{show_bytes(cost.bytes)} of memory beside the models"
    )
