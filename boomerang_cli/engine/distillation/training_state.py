"""The state of a training: gathered from all processes into a checkpoint's files, and put back."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim.lr_scheduler import LRScheduler
from transformers import TrainerState

from boomerang_cli.engine.distillation.processes import as_told_by, decide, is_distributed, rank
from boomerang_cli.engine.distillation.training_folder import PROGRESS, STATE, TENSORS, TrainingFolder
from boomerang_cli.engine.errors import TrainingError

_WHOLE_ON_CPU = StateDictOptions(full_state_dict=True, cpu_offload=True)


def gather_model(model: nn.Module) -> dict[str, Any]:
    """Return the model's weights alone, as :func:`gather_tensors` does."""
    return get_model_state_dict(model, options=_WHOLE_ON_CPU)


def gather_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return model and optimiser states whole, on the CPU, by parameter name: at any number of processes the same.

    All processes must call this; the tensors arrive at rank 0 alone.
    """
    return {
        "model": gather_model(model),
        "optimizer": get_optimizer_state_dict(model, optimizer, options=_WHOLE_ON_CPU),
        "random": {"cpu": torch.get_rng_state(), "cuda": _cuda_random_state(), "python": random.getstate()},
    }


def save_checkpoint(
    folder: TrainingFolder,
    tensors: Mapping[str, Any],
    state: TrainerState,
    progress: Mapping[str, Any],
    group: distributed.ProcessGroup | None,
) -> None:
    """Write a checkpoint at rank 0; on a full disk all processes stop, none waits for the one that failed.

    Args:
        tensors: what :func:`gather_tensors` returned.
        progress: what ``training_folder.read_progress`` will return.

    Raises:
        TrainingError: it cannot be written; the checkpoint before this one is still there.
    """

    def write(partial: Path) -> None:
        torch.save(tensors, partial / TENSORS)
        state.save_to_json(str(partial / STATE))
        (partial / PROGRESS).write_text(json.dumps(progress, indent=2), encoding="utf-8")

    decide(lambda: folder.save(state.global_step, write), group)


def load_tensors(checkpoint: Path) -> dict[str, Any]:
    """Read the tensors of a checkpoint, at rank 0 alone; the others receive theirs as they are restored.

    Raises:
        TrainingError: the file is damaged.
    """
    if rank() != 0:
        return {"model": {}, "optimizer": {}}
    try:
        tensors: dict[str, Any] = torch.load(checkpoint / TENSORS, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # torch.load raises half a dozen types for a damaged file
        raise TrainingError(
            f"{checkpoint / TENSORS} cannot be read: {str(error).splitlines()[0]}; start anew with --overwrite"
        ) from None
    return tensors


def restore_model(model: nn.Module, tensors: dict[str, Any]) -> None:
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=is_distributed())
    set_model_state_dict(model, tensors["model"], options=options)


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Any]) -> None:
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=is_distributed())
    set_optimizer_state_dict(model, optimizer, tensors["optimizer"], options=options)


def restore_schedule(schedule: LRScheduler, tensors: dict[str, Any], group: distributed.ProcessGroup | None) -> None:
    schedule.load_state_dict(as_told_by(0, tensors.get("scheduler"), group))  # type: ignore[arg-type]


def restore_random_state(tensors: dict[str, Any]) -> None:
    """Put back the random state of rank 0; the others have been in the same one since the seed was set."""
    if state := tensors.get("random"):
        torch.set_rng_state(state["cpu"])
        random.setstate(state["python"])
        if state["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"])


def _cuda_random_state() -> torch.Tensor | None:
    return torch.cuda.get_rng_state() if torch.cuda.is_available() else None
