"""How fast this machine trains a pair: forward and backward passes of it, for some seconds."""

from __future__ import annotations

import time
from functools import partial
from typing import Literal

import torch

from boomerang_cli.engine.distillation.batch_losses import BatchLosses
from boomerang_cli.engine.distillation.device import autocast
from boomerang_cli.engine.distillation.levers import Levers
from boomerang_cli.engine.distillation.micro_batch import choose_micro_batch_size
from boomerang_cli.engine.distillation.models import load_student, load_teacher
from boomerang_cli.engine.distillation.phase import Phase
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.waiting import waiting

MEASURED_SECONDS = 20.0
_told = partial(waiting, first_seconds=0.0, further_seconds=2.0)
"""Somebody asked for these seconds, and sees nothing else of them."""


def measure_rate(
    pair: Pair,
    recipe: Recipe,
    levers: Levers,
    micro_batch_size: int | Literal["auto"] = "auto",
    seconds: float = MEASURED_SECONDS,
) -> float:
    """Return the tokens a second that one device of this machine trains on, over all phases.

    With the largest micro-batch that fits, if none is given, on tokens that mean nothing. The optimiser's step, one a
    batch, and what processes wait for one another, are not in it.

    Raises:
        CheckpointError, UnsupportedModelError: a model that cannot be loaded.
        TrainingError: not even one sequence fits.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with _told(f"loading {pair.student.name} and {pair.teacher.name}"):
        student, teacher = load_student(pair, device), load_teacher(pair, device)
    levers.pull(student, teacher, pair.layer_map)
    losses = BatchLosses(student, teacher, pair.layer_map, recipe, partial(autocast, device))

    def run(phase: Phase, input_ids: torch.Tensor) -> None:
        losses.of_phase(phase, input_ids)[0].backward()  # type: ignore[no-untyped-call]
        student.zero_grad(set_to_none=True)

    total_seconds = 0.0
    for phase in recipe.phases:
        step, size = partial(run, phase), micro_batch_size
        if size == "auto":
            parameters = sum(each.numel() for each in student.parameters())
            with _told("measuring how many sequences fit at once"):
                size = choose_micro_batch_size(phase, device, step, parameters, levers.optimizer_bytes)
        rate = _rate(step, phase, size, device, seconds / len(recipe.phases))
        total_seconds += phase.steps * phase.tokens_per_step / rate
    return recipe.positions(recipe.total_steps) / total_seconds


def _rate(step: partial[None], phase: Phase, size: int, device: torch.device, seconds: float) -> float:
    input_ids = torch.zeros(size, phase.sequence_length, dtype=torch.int64, device=device)
    start, tokens = time.perf_counter(), 0

    def so_far() -> str:
        rate = f", {tokens / (time.perf_counter() - start):,.0f} tokens/s so far" if tokens else ""
        return f"measuring {phase.name} for {seconds:.0f} s, micro-batch size {size}{rate}"

    with _told(so_far):
        step(input_ids)  # the first one compiles, and fills caches
        _wait_for(device)
        start = time.perf_counter()
        while not tokens or time.perf_counter() - start < seconds:
            step(input_ids)
            _wait_for(device)
            tokens += input_ids.numel()
        return tokens / (time.perf_counter() - start)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
