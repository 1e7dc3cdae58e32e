"""How many sequences fit through the models at once: measured, so that nothing has to run out of memory first."""

from __future__ import annotations

from collections.abc import Callable

import torch

from boomerang_cli.engine.distillation.device import free_memory_bytes
from boomerang_cli.engine.distillation.phase import Phase
from boomerang_cli.engine.errors import TrainingError
from boomerang_cli.engine.processes.group import agree_on_largest, local_processes, processes

_CUDA_SHARE = 0.9
"""Of the free memory; the rest is for fragments and for kernels' workspaces."""
_CPU_SHARE = 0.5
"""Of the available memory; what autograd keeps is counted, temporary tensors come on top of it."""
CPU_TOKENS = 4096
"""On the CPU longer micro-batches are no faster: they leave the caches."""


def choose_micro_batch_size(
    phase: Phase, device: torch.device, run: Callable[[torch.Tensor], None], parameters: int, optimizer_bytes: float
) -> int:
    """Return the largest number of sequences that divides a process's share of the batch and fits.

    Memory grows in proportion to the sequences, as the logits never stand whole; so one and two of them are measured.
    Neither weights nor random state nor data are touched. All processes get the same answer.

    Args:
        run: forward and backward of ``input_ids`` int64 ``[sequences, sequence_length]``, after which no gradient is
            left: the next measurement would take it for memory that was there before.
        parameters: trained ones in this process, that have gradients.
        optimizer_bytes: what the optimiser keeps of each.

    Raises:
        TrainingError: the batch cannot be shared out, or not even one sequence fits.
    """
    phase.accumulation_steps(1, processes())
    share = phase.batch_size // processes()
    divisors = [size for size in range(1, share + 1) if share % size == 0]
    if device.type == "cuda":
        first, limit = _cuda_bytes(run, phase, device, 1), free_memory_bytes(device) - int(optimizer_bytes * parameters)
        step = (_cuda_bytes(run, phase, device, 2) - first) if share > 1 and 2 * first < limit else first
        fitting = [size for size in divisors if first + (size - 1) * step <= limit * _CUDA_SHARE]
    else:
        first = _saved_bytes(run, phase, device)
        free = int(free_memory_bytes(device) * _CPU_SHARE) // local_processes()
        limit = free - int((4 + optimizer_bytes) * parameters)
        most = max(1, CPU_TOKENS // phase.sequence_length)
        fitting = [size for size in divisors if size * first <= limit and size <= most]
    # The largest over processes of the negative is the smallest; two of the same divisors, so it divides everywhere.
    chosen = -agree_on_largest(-max(fitting, default=0))
    if chosen == 0:
        raise TrainingError(
            f"not even one sequence of {phase.sequence_length} tokens fits: {first / 2**30:.1f} GiB of "
            f"{max(limit, 0) / 2**30:.1f} GiB; lower {phase.flag('sequence_length')} or use --gpus"
        )
    return chosen


def _cuda_bytes(run: Callable[[torch.Tensor], None], phase: Phase, device: torch.device, sequences: int) -> int:
    """Return how far memory rises in a forward and backward pass."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    try:
        run(_dummy(phase, device, sequences))
    except torch.cuda.OutOfMemoryError:
        _, total = torch.cuda.mem_get_info(device)
        raise TrainingError(
            f"{sequences} sequence(s) of {phase.sequence_length} tokens do not fit on {device} "
            f"({total / 2**30:.1f} GiB): lower {phase.flag('sequence_length')} or use --gpus"
        ) from None
    return torch.cuda.max_memory_allocated(device) - before


def _saved_bytes(run: Callable[[torch.Tensor], None], phase: Phase, device: torch.device) -> int:
    """Return what autograd keeps of one sequence's forward pass."""
    storages: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run(_dummy(phase, device, 1))
    return sum(storages.values())


def _dummy(phase: Phase, device: torch.device, sequences: int) -> torch.Tensor:
    return torch.zeros(sequences, phase.sequence_length, dtype=torch.int64, device=device)
