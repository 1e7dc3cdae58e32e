"""The losses that a training records: means over the steps since the last record, each a finite number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch

from boomerang_cli.engine.distillation.progress import Standing
from boomerang_cli.engine.distillation.training_folder import TrainingFolder
from boomerang_cli.engine.errors import TrainingError


def zero_sums(count: int, device: torch.device) -> torch.Tensor:
    """Return zeros ``[count]`` to add losses up in: float64, where the device has it."""
    return torch.zeros(count, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)


class LossSums:
    """Adds up micro-batches' losses on the device, so that nothing waits for it before they are recorded.

    Args:
        parts: the names of a loss and of its parts.
    """

    def __init__(self, parts: Sequence[str], device: torch.device) -> None:
        self._parts = tuple(parts)
        self._sums = zero_sums(len(self._parts) + 1, device)

    def add(self, values: torch.Tensor) -> None:
        """Add one micro-batch's loss and its parts, as they are named."""
        self._sums += torch.cat([values, values.new_ones(1)]).to(self._sums)

    def take_means(self, sum_over_processes: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
        """Return each part's mean over all micro-batches of all processes, and begin anew."""
        *sums, count = sum_over_processes(self._sums).tolist()  # the one wait for the device
        self._sums.zero_()
        return {part: value / count for part, value in zip(self._parts, sums, strict=True)}


def check_finite(losses: Mapping[str, float], gradient_norm: float, step: int, folder: TrainingFolder) -> None:
    """Refuse to go on from what is no number.

    Raises:
        TrainingError: tells the step, the losses, and the last good checkpoint.
    """
    if all(map(math.isfinite, (*losses.values(), gradient_norm))):
        return
    kept = folder.newest()
    way_out = f"the last good checkpoint is {kept}" if kept else "no checkpoint was saved before"
    shown = ", ".join(f"{part} {value:.4g}" for part, value in losses.items())
    raise TrainingError(
        f"the loss is not finite at step {step} ({shown}, gradient norm {gradient_norm:.4g}): "
        f"lower --learning-rate; {way_out}"
    )


def training_record(standing: Standing, step: int, learning_rate: float, gradient_norm: float) -> dict[str, float]:
    """Return a line of ``metrics.jsonl``, but for what Trainer adds to it."""
    return {
        "loss": standing.losses["total"],
        **{part: standing.losses[part] for part in standing.recipe.parts[1:]},
        "learning_rate": learning_rate,
        "grad_norm": gradient_norm,
        "tokens": standing.tokens,
        "tokens_per_second": standing.tokens_per_second(step),
    }
