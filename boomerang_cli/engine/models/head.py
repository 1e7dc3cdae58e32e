"""From hidden states to logits, and the two measures of them a token, on tensors of any number of tokens."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

IGNORED_LABEL = -100
CPU_CHUNK_BYTES = 32 * 2**20
GPU_CHUNK_BYTES = 256 * 2**20


def token_log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    logits = at_least_float32(logits)
    return F.log_softmax(logits if temperature == 1 else logits / temperature, dim=-1)


def token_cross_entropy(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    return -log_probabilities.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)


def token_kl_divergence(student: Tensor, teacher: Tensor, teacher_probabilities: Tensor | None = None) -> Tensor:
    """Of log-probabilities, before tau^2; whoever compares many students has the teacher's probabilities at hand."""
    return (teacher - student).mul_(teacher.exp() if teacher_probabilities is None else teacher_probabilities).sum(-1)


def at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
_MULTIPLY = {"hyperclovax"}
"""Types that multiply by ``logits_scaling``, by which all others divide."""


class Head(NamedTuple):
    """What makes logits of the final hidden states: a projection, and the scale and cap that some families put on it.

    Attributes:
        weight: ``[vocabulary, hidden]``.
        bias: ``[vocabulary]``.
        softcap: logits become ``softcap * tanh(logits / softcap)`` (Gemma 2).
        scale: logits are multiplied by it before that (Cohere, Granite).
    """

    weight: Tensor
    bias: Tensor | None = None
    softcap: float | None = None
    scale: float = 1.0

    @classmethod
    def of(cls, model: PreTrainedModel) -> Head:
        """Ask at each call: under FSDP2 the parameters inside of a forward pass are not those outside."""
        projection: nn.Linear = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        caps = (getattr(model.config, field, None) for field in _CAPS)
        softcap = next((cap for cap in caps if cap is not None), None)
        return cls(projection.weight, projection.bias, softcap, _scale(model))

    def in_autocast_dtype(self) -> Head:
        """Cast float32 parameters once, as autocast would once a chunk."""
        device_type = self.weight.device.type
        if not torch.is_autocast_enabled(device_type) or self.weight.dtype != torch.float32:
            return self
        dtype = torch.get_autocast_dtype(device_type)
        return self._replace(weight=self.weight.to(dtype), bias=None if self.bias is None else self.bias.to(dtype))

    def logits(self, hidden: Tensor) -> Tensor:
        """Return ``[tokens, vocabulary]``, at least float32, for ``[tokens, hidden]``; not to be differentiated."""
        logits = at_least_float32(F.linear(hidden.to(self.weight.dtype), self.weight, self.bias))
        if self.scale != 1:
            logits = logits.mul_(self.scale)
        return logits if self.softcap is None else logits.div_(self.softcap).tanh_().mul_(self.softcap)

    def uncapped_gradient(self, gradient: Tensor, logits: Tensor) -> Tensor:
        """Carry a gradient back through cap and scale, in place; consumes the logits."""
        if self.softcap is not None:
            gradient = gradient.mul_(1 - logits.div_(self.softcap).square_())
        return gradient if self.scale == 1 else gradient.mul_(self.scale)


def _scale(model: PreTrainedModel) -> float:
    """Return what a family multiplies its logits by; all that do are told apart by their configurations' fields."""
    config = model.config
    scale = float(getattr(model, "logit_scale", 1))  # MPT's configuration has the field, and its class does not use it
    scale *= float(getattr(config, "lm_head_multiplier", 1))
    scale /= float(getattr(config, "logits_mup_width_multiplier", 1))
    scaling = float(getattr(config, "logits_scaling", 1))
    return scale * scaling if config.model_type in _MULTIPLY else scale / scaling
