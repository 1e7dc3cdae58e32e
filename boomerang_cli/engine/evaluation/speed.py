"""How fast a model reads text and writes it, and what memory it takes to read."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.evaluation.scoring import is_out_of_memory
from boomerang_cli.engine.models.generation import generate_greedily

_RUNS = 3
_WRITING_RUNS = 2
_PROMPT_TOKENS, _NEW_TOKENS = 8, 32


@dataclass(frozen=True)
class Speed:
    """What one forward pass over a batch takes, and what writing takes.

    Attributes:
        tokens_per_second: read, of all sequences of the batch together.
        generated_tokens_per_second: written behind a short prompt, greedily, one sequence at a time, by transformers as
            it is; None where its generation config is not taken, or the model has too few positions.
        memory_bytes: the model's own weights and the peak of what comes on top of them; None on a CPU, which does not
            tell, and on several devices.
    """

    tokens_per_second: float
    memory_bytes: int | None
    generated_tokens_per_second: float | None = None


def measure_speed(model: PreTrainedModel, input_ids: Tensor) -> Speed:
    """Return the fastest of a few forward passes, after one that is not counted, and of a few short texts written.

    In reading, as in serving, logits are made for the last token alone, and no key-value cache is kept.

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
    return Speed(input_ids.numel() / seconds, memory, _generation_rate(model, input_ids[:1]))


def _generation_rate(model: PreTrainedModel, input_ids: Tensor) -> float | None:
    """Return the tokens per second that are written behind the beginning of a sequence ``[1, sequence]``.

    The prompt's own pass counts, as its user waits for it, too.
    """
    prompt = input_ids[:, : min(_PROMPT_TOKENS, input_ids.shape[1] // 2)]
    count = min(_NEW_TOKENS, input_ids.shape[1] - prompt.shape[1])  # within the positions that were read
    if not prompt.shape[1]:
        return None
    try:
        _generation_seconds(model, prompt, 1)
        seconds = min(_generation_seconds(model, prompt, count) for _ in range(_WRITING_RUNS))
    except (ValueError, TypeError):  # of a generation config that asks for what is not here
        return None
    return count / seconds


def _generation_seconds(model: PreTrainedModel, prompt: Tensor, count: int) -> float:
    started = time.monotonic()
    written = generate_greedily(model, prompt, min_new_tokens=count, max_new_tokens=count, pad_token_id=0)
    if written.shape[1] != prompt.shape[1] + count:
        raise ValueError
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.monotonic() - started


@torch.inference_mode()
def _forward_seconds(model: PreTrainedModel, input_ids: Tensor) -> float:
    started = time.monotonic()
    model(input_ids, use_cache=False, logits_to_keep=1)
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.monotonic() - started
