"""How fast a model reads text, and what memory it takes for it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.evaluation.scoring import is_out_of_memory

_RUNS = 3


@dataclass(frozen=True)
class Speed:
    """What one forward pass over a batch takes.

    Attributes:
        memory_bytes: the model's own weights and the peak of what comes on top of them; None on a CPU, which does not
            tell, and on several devices.
    """

    tokens_per_second: float
    memory_bytes: int | None


def measure_speed(model: PreTrainedModel, input_ids: Tensor) -> Speed:
    """Return the fastest of a few forward passes, after one that is not counted.

    As in serving, logits are made for the last token alone, and no key-value cache is kept.

    Args:
        input_ids: int64 ``[batch, sequence]``.

    Raises:
        ScoringError: the device has too little memory for the batch.
    """
    device = model.device
    input_ids = input_ids.to(device)
    try:
        seconds = min([_forward_seconds(model, input_ids) for _ in range(1 + _RUNS)][1:])
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        message = f"{device} has too little memory for a batch of {len(input_ids)}: give a smaller --batch-size"
        raise ScoringError(message) from None
    memory = None
    if device.type == "cuda" and all(parameter.device == device for parameter in model.parameters()):
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        _forward_seconds(model, input_ids)
        weights = sum(parameter.nbytes for parameter in model.parameters())
        memory = weights + torch.cuda.max_memory_allocated(device) - before
    return Speed(input_ids.numel() / seconds, memory)


@torch.inference_mode()
def _forward_seconds(model: PreTrainedModel, input_ids: Tensor) -> float:
    started = time.monotonic()
    model(input_ids, use_cache=False, logits_to_keep=1)
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.monotonic() - started
