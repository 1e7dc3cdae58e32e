"""Student and teacher in memory, ready to be trained: on the device, and split over the processes there are."""

from __future__ import annotations

from functools import partial

import torch
from transformers import PreTrainedModel

from boomerang_cli.engine.distillation.device import has_bfloat16
from boomerang_cli.engine.distillation.sharding import shard, split_root, with_whole_root
from boomerang_cli.engine.models.agreement import check_parts
from boomerang_cli.engine.models.hidden_states import decoder_layers
from boomerang_cli.engine.models.loading import load_model
from boomerang_cli.engine.models.split_loading import reads_by_rows
from boomerang_cli.engine.pair.layers import Owner
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.processes.group import in_turns, is_distributed, processes


def load_student(pair: Pair, device: torch.device, *, offload: bool = False) -> PreTrainedModel:
    """Load the model that is trained, in float32: the optimiser's small steps would be lost in bfloat16.

    Args:
        offload: keep what is split in host memory.

    Raises:
        CheckpointError, UnsupportedModelError: see ``loading.load_model``.
    """
    student = _load(pair, "student", torch.float32, device, offload=offload)
    if is_distributed():
        # What Trainer asks a model to know whether it may be wrapped: this one is sharded already.
        student._is_distributed_loading_by_transformers = True
    return student


def load_teacher(pair: Pair, device: torch.device) -> PreTrainedModel:
    """Load the frozen teacher, in bfloat16 where the device computes in it (errors as in :func:`load_student`)."""
    return _load(pair, "teacher", torch.bfloat16 if has_bfloat16(device) else torch.float32, device)


def _load(
    pair: Pair, owner: Owner, dtype: torch.dtype, device: torch.device, *, offload: bool = False
) -> PreTrainedModel:
    """Load a model; of several processes each reads its own part alone, where that can be (``reads_by_rows``).

    Otherwise the processes of a machine load the model whole, one after the other, and keep their parts.
    """
    checkpoint, config = pair.checkpoint(owner), pair.config(owner)
    depth = pair.layer_map.student_layers if owner == "student" else pair.layer_map.teacher_layers

    def split(model: PreTrainedModel) -> None:
        model.requires_grad_(owner == "student")
        shard(model, decoder_layers(model, depth), device, offload=offload)

    def load_whole() -> PreTrainedModel:
        model = load_model(checkpoint, config, dtype=dtype)
        split(model)
        return model

    if not is_distributed():
        model = load_model(checkpoint, config, dtype=dtype, device=device)
        model.requires_grad_(owner == "student")
    elif reads_by_rows(config, checkpoint.name, processes()):
        home = torch.device("cpu") if offload else device
        model = load_model(checkpoint, config, dtype=dtype, device=home, split=split)
    else:
        model = in_turns(load_whole)
    check_parts(model, depth, checkpoint.name, partial(with_whole_root, model))
    split_root(model)
    return model
