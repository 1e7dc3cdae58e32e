"""What a distillation is told beside its recipe, as far as it can be wrong by itself: refused before anything loads."""

from __future__ import annotations

from typing import Literal

from boomerang_cli.engine.errors import TrainingError, check_above_zero, check_least
from boomerang_cli.engine.processes.machine import check_for_plan


def check_options(
    *,
    save_every: int | None,
    eval_every: int | None,
    micro_batch_size: int | Literal["auto"],
    dry_run: bool,
    gpus: int | None,
    gpu_memory: str | None,
    tokens_per_second: float | None,
    measure: bool,
) -> None:
    """Refuse numbers that mean nothing, options of a plan where none is made, and two rates in one.

    Raises:
        TrainingError, ProcessError: names the option.
        SelectionError: a size that is none.
    """
    processes = None if micro_batch_size == "auto" else micro_batch_size
    check_least(1, TrainingError, save_every=save_every, eval_every=eval_every, micro_batch_size=processes, gpus=gpus)
    check_above_zero(TrainingError, tokens_per_second=tokens_per_second)
    check_for_plan(dry_run, gpu_memory=gpu_memory, tokens_per_second=tokens_per_second, measure=measure or None)
    if measure and tokens_per_second is not None:
        raise TrainingError("--measure measures what --tokens-per-second gives: leave one of them out", usage=True)
