"""How long a training takes at least on a CPU, told before it begins rather than found out in weeks."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from boomerang_cli.engine.distillation.levers import Levers
from boomerang_cli.engine.distillation.needs import flops_of_recipe
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.errors import TrainingError
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.processes.group import processes
from boomerang_cli.engine.sizes import show_count, show_duration

_LONG_SECONDS = 1800.0
"""What is asked about, as a sweep asks about a search of orders."""
_SHORT_FLOPS = 1e13
"""Half an hour of less than 6 GFLOP/s, which no CPU is as slow as: not worth measuring one."""
_MATRIX = 512
"""Its product takes milliseconds: of many, some are not interrupted by what else the machine does."""
_PRODUCTS = 32


def check_hours(
    pair: Pair, recipe: Recipe, levers: Levers, device: torch.device, *, yes: bool, on_note: Callable[[str], None]
) -> None:
    """Refuse a training that would take longer than half an hour on the CPU, unless somebody wants it so.

    The bound is low, so that nothing shorter is ever refused: all operations at the speed of plain products of large
    matrices, which a training does not reach.

    Args:
        yes: train however long it takes; then this is noted.

    Raises:
        TrainingError: says how long it takes, and what would shorten it.
    """
    if device.type != "cpu":
        return
    flops = sum(each.total for each in flops_of_recipe(pair, recipe, levers))
    if flops < _SHORT_FLOPS:
        return
    seconds = flops / (measured_flops() * processes())
    if seconds < _LONG_SECONDS:
        return
    tokens = show_count(recipe.positions(recipe.total_steps))
    takes = f"{tokens} tokens take {flops:.1e} FLOPs, at least {show_duration(seconds)} on this CPU"
    if not yes:
        raise TrainingError(
            f"{takes}: --yes starts it all the same, fewer --steps or a smaller --batch-size shorten it, --dry-run "
            "plans it for a GPU"
        )
    on_note(takes)


def measured_flops() -> float:
    """Return the floating-point operations a second of products of large matrices on all of torch's threads.

    That of one thread times their number, by the best of many products: no thread waits for one that is interrupted.
    """
    matrix, threads, times = torch.ones(_MATRIX, _MATRIX), torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for _ in range(_PRODUCTS):
            started = time.perf_counter()
            torch.mm(matrix, matrix)
            times.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return threads * 2.0 * _MATRIX**3 / min(times)
