"""A model's perplexity on held-out sequences, shared out over the processes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from boomerang_cli.engine.distillation.loss_record import zero_sums
from boomerang_cli.engine.processes.group import processes, rank


def score_held_out(
    sequences: torch.Tensor,
    micro_batch_size: int,
    device: torch.device,
    cross_entropy: Callable[[torch.Tensor], torch.Tensor],
    sum_over_processes: Callable[[torch.Tensor], torch.Tensor],
    on_scored: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Return ``loss``, the cross entropy a token in nats, and ``perplexity``, its exponential.

    All processes must call this, and get the same answer.

    Args:
        sequences: int64 ``[sequences, length]``, the same in every process.
        micro_batch_size: sequences at once in each process.
        cross_entropy: of ``[up to micro_batch_size, length]`` on ``device``, the mean a token.
        on_scored: called with the number of sequences that are scored, and of all.
    """
    together = micro_batch_size * processes()
    sums = zero_sums(2, device)
    for start in range(0, len(sequences), together):
        on_scored(start, len(sequences))
        own = sequences[start : start + together][rank() :: processes()]
        # All processes must take part in each gathering of weights: one without text computes for nothing.
        value = cross_entropy((own if len(own) else sequences[:1]).to(device))
        weight = float(len(own))
        sums += torch.stack([value * weight, value.new_tensor(weight)]).to(sums)
    loss_sum, count = sum_over_processes(sums).tolist()
    return {"loss": loss_sum / count, "perplexity": _perplexity(loss_sum / count)}


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))  # above, a float64 overflows
