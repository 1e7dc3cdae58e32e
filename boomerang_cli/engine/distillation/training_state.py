"""The state of a training: written by all processes into a checkpoint's files, and put back by any number of them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LRScheduler
from transformers import TrainerState

from boomerang_cli.engine.distillation.parts import Parts, write_part
from boomerang_cli.engine.distillation.training_folder import PROGRESS, STATE, TABLE, TrainingFolder
from boomerang_cli.engine.errors import TrainingError
from boomerang_cli.engine.output.system_calls import sync_tree
from boomerang_cli.engine.processes.group import all_values, decide, processes, rank

_RANDOM = {"random/cpu": torch.get_rng_state, "random/cuda": torch.cuda.get_rng_state}


def save_checkpoint(
    folder: TrainingFolder,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
    state: TrainerState,
    progress: Mapping[str, Any],
    group: distributed.ProcessGroup | None,
) -> None:
    """Write a checkpoint, each process its own part of the tensors; it is one when all have written theirs.

    On a full disk all processes stop, none waits for the one that failed.

    Args:
        progress: what ``training_folder.read_progress`` will return, at rank 0's.

    Raises:
        TrainingError: it cannot be written; the checkpoint before this one is still there.
    """
    step = state.global_step
    tensors = _model_tensors(model) | dict(_optimizer_tensors(get_optimizer_state_dict(model, optimizer)))
    partial = decide(lambda: folder.begin(step), group)
    failures = [
        failure for failure in all_values(_try_to_write(partial, tensors | _random_tensors()), group) if failure
    ]
    table = {"parts": processes(), "schedule": schedule.state_dict(), "random": random.getstate()}

    def write(partial: Path) -> None:
        if failure := next(filter(None, failures), None):
            raise RuntimeError(failure)
        (partial / TABLE).write_text(json.dumps(table, default=float), encoding="utf-8")  # a tensor, of some optimisers
        state.save_to_json(str(partial / STATE))
        (partial / PROGRESS).write_text(json.dumps(progress, indent=2), encoding="utf-8")

    decide(lambda: folder.save(step, write), group)


def _try_to_write(partial: Path, tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Write this process's part until it is on the disk, or say why it cannot be."""
    try:
        sync_tree(write_part(partial, tensors))
    except (OSError, TrainingError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return reason if rank() == 0 else f"process {rank()}: {reason}"
    return None


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is read: its tensors, which stay in its files, and what is no tensor."""

    parts: Parts
    table: Mapping[str, Any]

    @classmethod
    def open(cls, checkpoint: Path) -> Saved:
        """Read the table and the headers of a checkpoint.

        Raises:
            TrainingError: a file is missing or damaged.
        """
        path = checkpoint / TABLE
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            return cls(Parts(checkpoint, int(table["parts"])), table)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{path} cannot be read: {error}; start anew with --overwrite") from None

    def restore_model(self, model: nn.Module) -> None:
        """Put back weights (errors as in ``Parts.restore``)."""
        for name, tensor in _model_tensors(model).items():
            self.parts.restore(name, tensor)

    def restore_optimizer(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put back moments and steps; what has none in the checkpoint has taken no step (errors as above)."""
        state = get_optimizer_state_dict(model, optimizer)  # that of a step without gradients, which is made now
        for name, tensor in _optimizer_tensors(state):
            if name in self.parts:
                self.parts.restore(name, tensor)
            else:
                tensor.zero_()
        set_optimizer_state_dict(model, optimizer, state)

    def restore_schedule(self, schedule: LRScheduler) -> None:
        """Put back the schedule, with the learning rate that the next step takes."""
        schedule.load_state_dict(self.table["schedule"])
        groups = schedule.optimizer.param_groups
        for parameters, learning_rate in zip(groups, schedule.get_last_lr(), strict=True):
            if isinstance(parameters["lr"], torch.Tensor):  # of compiled optimisers, which want theirs filled
                parameters["lr"].fill_(learning_rate)
            else:
                parameters["lr"] = learning_rate

    def restore_random_state(self) -> None:
        """Put back the random state of rank 0 in all processes: they have one since the seed was set."""
        version, numbers, gauss = self.table["random"]
        random.setstate((version, tuple(numbers), gauss))
        torch.set_rng_state(self.parts.whole("random/cpu"))
        if torch.cuda.is_available() and "random/cuda" in self.parts:
            torch.cuda.set_rng_state(self.parts.whole("random/cuda"))


def _model_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and persistent buffers as this process holds them; what is tied is one."""
    own = {name for named in (model.named_parameters(), model.named_buffers()) for name, _ in named}
    state: dict[str, Any] = get_model_state_dict(model)
    return {f"model/{name}": tensor for name, tensor in state.items() if name in own}


def _optimizer_tensors(state: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    for parameter, values in state["state"].items():
        for key, value in values.items():
            yield from _plain(f"optimizer/{parameter}/{key}", value)


def _plain(name: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield a tensor, or of one in 8 bits those that it is made of: files hold no others."""
    if isinstance(tensor, DTensor) or not hasattr(tensor, "__tensor_flatten__"):
        yield name, tensor
        return
    inner, _ = tensor.__tensor_flatten__()
    yield from ((f"{name}/{part}", getattr(tensor, part)) for part in inner)


def _random_tensors() -> dict[str, torch.Tensor]:
    return {name: get() for name, get in _RANDOM.items() if "cuda" not in name or torch.cuda.is_available()}
