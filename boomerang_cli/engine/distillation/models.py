"""Student and teacher in memory, ready to be trained: on the device, and split over the processes there are."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from boomerang_cli.engine.distillation import sharding
from boomerang_cli.engine.distillation.losses import decoder_layers
from boomerang_cli.engine.errors import TrainingError


def load_student(folder: Path, device: torch.device) -> PreTrainedModel:
    """Load the model that is trained, in float32: the optimiser's small steps would be lost in bfloat16.

    Raises:
        TrainingError: transformers cannot load it.
    """
    student = _load(folder, torch.float32, device, trained=True)
    if sharding.is_distributed():
        # What Trainer asks a model to know whether it may be wrapped: this one is sharded already.
        student._is_distributed_loading_by_transformers = True
    return student


def load_teacher(folder: Path, device: torch.device) -> PreTrainedModel:
    """Load the frozen teacher, in bfloat16 where the device computes in it (errors as in :func:`load_student`)."""
    return _load(folder, torch.bfloat16 if has_bfloat16(device) else torch.float32, device, trained=False)


def has_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _load(folder: Path, dtype: torch.dtype, device: torch.device, *, trained: bool) -> PreTrainedModel:
    def load() -> PreTrainedModel:
        try:
            model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, trust_remote_code=False, local_files_only=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise TrainingError(f"{folder} cannot be loaded: {str(error).strip().splitlines()[0]}") from None
        model.requires_grad_(trained)
        if sharding.is_distributed():
            sharding.shard(model, decoder_layers(model), device)
        else:
            model.to(device)  # type: ignore[arg-type]
        return model

    return sharding.in_turns(load)
