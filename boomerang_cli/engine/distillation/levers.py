"""What lets a training fit into less memory, or run faster, at a price; none of it is pulled unless it is asked for."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from boomerang_cli.engine.errors import TrainingError
from boomerang_cli.engine.models.hidden_states import decoder_layers
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.processes.launch import is_launched
from boomerang_cli.engine.quiet import quiet_transformers

OPTIMIZERS = {"adamw": None, "adamw-8bit": "adamw_torch_8bit"}
"""By our names Trainer's, whose default is None. torchao's, not bitsandbytes's, which knows neither FSDP2 nor a CPU."""
OPTIMIZER_BYTES = {"adamw": 8.0, "adamw-8bit": 2 + 2 * 4 / 256}
"""A parameter: two moments, in float32 or in 8 bits with a float32 scale for each 256 (arXiv 2110.02861)."""
_PACKAGES = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
_ATTENTION = ("eager", "sdpa", "flex_attention", *_PACKAGES)


@dataclass(frozen=True)
class Levers:
    """How a training computes; but for rounding its result does not depend on it, save for the optimiser's.

    Attributes:
        gradient_checkpointing: keep of each trained layer its input alone, and run it again in the backward
            pass (arXiv 1604.06174).
        optimizer: ``adamw``, or ``adamw-8bit``, whose moments are kept in 8 bits.
        offload: keep the student's weights, gradients and moments in host memory (FSDP2's CPU offload).
        attention: transformers' name of the attention of both models; None is its own choice.
        compile: compile each layer of both models.

    Raises:
        TrainingError: a name that is unknown, or needs a package that is not installed; says what to install.
    """

    gradient_checkpointing: bool = False
    optimizer: str = "adamw"
    offload: bool = False
    attention: str | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise TrainingError(
                f"--optimizer {self.optimizer} is unknown: give one of {', '.join(OPTIMIZERS)}", usage=True
            )
        if OPTIMIZERS[self.optimizer] and importlib.util.find_spec("torchao") is None:
            raise TrainingError(
                f"--optimizer {self.optimizer} needs the package torchao: `pip install 'boomerang-cli[low-memory]'`"
            )
        if self.attention is not None:
            _check_attention(self.attention)

    @property
    def trainer_options(self) -> dict[str, Any]:
        """Return what Trainer's arguments are to say of these."""
        chosen: dict[str, Any] = {"optim": name} if (name := OPTIMIZERS[self.optimizer]) else {}
        if self.offload:  # gradients' norms are summed where the gradients are
            chosen["ddp_backend"] = "cpu:gloo,cuda:nccl"
        return chosen

    @property
    def optimizer_bytes(self) -> float:
        """Return what a trained parameter's moments take of the device's memory."""
        return 0.0 if self.offload else OPTIMIZER_BYTES[self.optimizer]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def is_for_one_process(self) -> bool:
        """Tell whether several processes cannot have these."""
        return OPTIMIZERS[self.optimizer] is not None

    def check_device(self, device: torch.device, processes: int | None = None) -> None:
        """Refuse what does not go with the device or the number of processes, before these are connected.

        Args:
            processes: that are planned for; None is those that torchrun started, or the only one.

        Raises:
            TrainingError: offloading on a CPU, or of one process; moments in 8 bits of several.
        """
        several = is_launched() if processes is None else processes > 1
        if self.is_for_one_process and several:
            raise TrainingError(
                f"--optimizer {self.optimizer} is for one process: what several hold of it in 8 bits cannot be saved"
            )
        if self.offload and device.type == "cpu":
            raise TrainingError("--offload moves the student out of a GPU's memory, and this training runs on the CPU")
        if self.offload and not several:
            raise TrainingError("--offload is FSDP2's, which one process does without: use --gpus 2 or more")

    def check_same(self, saved: Any) -> None:
        """Refuse to go on with another optimiser's state; all else may be changed on the way.

        Raises:
            TrainingError: names both.
        """
        before = saved.get("optimizer", "adamw") if isinstance(saved, dict) else "adamw"
        if before != self.optimizer:
            raise TrainingError(
                f"the run to resume had --optimizer {before}, not {self.optimizer}: give the same, or start anew with "
                "--overwrite"
            )

    def pull(self, student: PreTrainedModel, teacher: PreTrainedModel, layer_map: LayerMap) -> None:
        """Change how both models compute, in place; they are loaded, and split, by now.

        Forward functions are wrapped, not layers: what takes hidden states, and what FSDP2 does, are hooks around
        them, which run once, and are in no graph. Trainer's own switches would miss both: its checkpointing is that of
        layers in training mode, with their dropout, and its compiling takes in the hooks.

        Raises:
            TrainingError: a model that cannot be run so.
        """
        for model, depth in ((student, layer_map.student_layers), (teacher, layer_map.teacher_layers)):
            if self.attention is not None:
                _set_attention(model, self.attention)
            layers = decoder_layers(model, depth)
            if self.compile:
                for layer in layers:
                    layer.forward = torch.compile(layer.forward)
            if self.gradient_checkpointing:  # of the teacher's layers too: a patched student has some
                _checkpoint(model, layers)


def _check_attention(name: str) -> None:
    if "/" in name or name not in _ATTENTION:
        why = "is code of the Hub, which is not run" if "/" in name else "is unknown"
        raise TrainingError(f"--attention {name} {why}: give one of {', '.join(_ATTENTION)}", usage=True)
    package = _PACKAGES.get(name)
    if package and importlib.util.find_spec(package) is None:  # transformers would take a kernel of the Hub instead
        raise TrainingError(
            f"--attention {name} needs the package {package}, which is not installed: leave --attention out, sdpa has "
            "flash kernels of its own"
        )


def _set_attention(model: PreTrainedModel, name: str) -> None:
    try:
        with quiet_transformers():
            model.set_attn_implementation(name)
    except (ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise TrainingError(f"--attention {name} cannot be used: {reason}") from None
    if model.config._attn_implementation != name:
        raise TrainingError(f"--attention {name} cannot be used: {type(model).__name__} computes it in one way only")


def _checkpoint(model: PreTrainedModel, layers: nn.ModuleList) -> None:
    if not model.supports_gradient_checkpointing:  # a layer may change what it is given, and not run twice the same
        raise TrainingError(f"--gradient-checkpointing cannot be used: {type(model).__name__} does not support it")
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
