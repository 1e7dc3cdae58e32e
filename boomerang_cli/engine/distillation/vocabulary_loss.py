"""Cross entropy and KL divergence from hidden states, chunk by chunk, so that logits never stand whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from boomerang_cli.engine.models.head import (
    CPU_CHUNK_BYTES,
    GPU_CHUNK_BYTES,
    IGNORED_LABEL,
    Head,
    token_cross_entropy,
    token_kl_divergence,
    token_log_probabilities,
)


def _cross_entropy_gradient(log_probabilities: Tensor, labels: Tensor, shares: Tensor) -> Tensor:
    """``softmax(logits) - onehot(label)``, written over the log-probabilities."""
    gradient = log_probabilities.exp_().mul_(shares.unsqueeze(-1))
    return gradient.scatter_add_(-1, labels.clamp(min=0).unsqueeze(-1), -shares.unsqueeze(-1))


def _kl_gradient(student: Tensor, teacher: Tensor, shares: Tensor, temperature: float) -> Tensor:
    """``tau^2 * (softmax(student / tau) - softmax(teacher / tau)) / tau``; writes over the teacher's."""
    return student.exp().sub_(teacher.exp_()).mul_(temperature * shares.unsqueeze(-1))


@dataclass(frozen=True)
class Counted:
    """The positions that a loss is summed over, and what the sum is divided by.

    Attributes:
        positions: bool ``[batch, sequence]``; the last of a row is none of them.
        tokens: how many a batch has on average, where what several batches give is averaged; so all of them together
            give the mean over all their positions, however these are spread.
    """

    positions: Tensor
    tokens: float


def shares_of(real: Tensor, dtype: torch.dtype, tokens: float | None = None) -> Tensor:
    """What each position weighs in the mean over the real ones; 0 everywhere if there are none.

    Args:
        tokens: what their sum is divided by, if it is not their number.
    """
    weights = real.to(dtype)
    return weights / (weights.sum().clamp(min=1) if tokens is None else tokens)


def real_positions(positions: Tensor, attention_mask: Tensor | None) -> Tensor:
    return torch.ones_like(positions) if attention_mask is None else attention_mask.bool()


@dataclass(frozen=True)
class _Targets:
    """What the student's logits of each token are compared with, and what each token weighs."""

    labels: Tensor | None
    label_shares: Tensor | None
    teacher_hidden: Tensor | None
    teacher_head: Head | None
    real_shares: Tensor
    kl_weight: float
    temperature: float

    def at(self, tokens: slice) -> _Targets:
        return replace(
            self,
            labels=None if self.labels is None else self.labels[tokens],
            label_shares=None if self.label_shares is None else self.label_shares[tokens],
            teacher_hidden=None if self.teacher_hidden is None else self.teacher_hidden[tokens],
            real_shares=self.real_shares[tokens],
        )


def vocabulary_loss(
    hidden: Tensor,
    head: Head,
    *,
    labels: Tensor | None,
    teacher_hidden: Tensor | None = None,
    teacher_head: Head | None = None,
    attention_mask: Tensor | None = None,
    kl_weight: float = 0.1,
    temperature: float = 1.0,
    chunk_bytes: int | None = None,
    tokens: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``CE + kl_weight * KL``, and both parts detached; the logits of the whole batch never stand in memory.

    A chunk of tokens is projected once for both losses and for both directions: its gradient is formed at once, and
    backward only scales it. Under autocast the projections run in the autocast dtype, everything else in float32.

    Args:
        hidden: the student's ``[batch, sequence, hidden]``, after the final norm.
        labels: ``[batch, sequence]``, as ``next_token_labels`` makes them; None switches cross entropy off.
        teacher_hidden: ``[batch, sequence, hidden]`` for ``teacher_head``; None switches KL off.
        chunk_bytes: what the float32 logits of one model may take in one chunk. About five times as much is held
            while a chunk is worked on.
        tokens: what sums are divided by; None is how many they are of.
    """
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    targets = _Targets(
        labels=None if labels is None else labels.flatten(),
        label_shares=None if labels is None else shares_of(labels != IGNORED_LABEL, dtype, tokens).flatten(),
        teacher_hidden=None if teacher_hidden is None else teacher_hidden.flatten(0, 1),
        teacher_head=teacher_head and teacher_head.in_autocast_dtype(),
        real_shares=shares_of(real_positions(hidden[..., 0].detach(), attention_mask), dtype, tokens).flatten(),
        kl_weight=kl_weight,
        temperature=temperature,
    )
    most_tokens = max(
        1,
        (chunk_bytes or default_chunk_bytes(head.weight.numel(), head.weight.device.type))
        // (4 * head.weight.shape[0]),
    )
    with_gradient = torch.is_grad_enabled()  # inside of an autograd function it never says so
    total, cross_entropy, kl = _VocabularyLoss.apply(  # type: ignore[no-untyped-call]
        hidden.flatten(0, 1), *head, targets, most_tokens, with_gradient
    )
    return total, cross_entropy, kl


def default_chunk_bytes(head_values: int, device_type: str) -> int:
    """Return what the float32 logits of a chunk may take, for a head of so many values."""
    # A chunk costs a pass over the weight's gradient, so few tokens a chunk are slow. One fifth of that gradient's
    # size makes a chunk take as much memory as the gradient, which has to stand there anyhow.
    least = CPU_CHUNK_BYTES if device_type == "cpu" else GPU_CHUNK_BYTES
    return max(least, 4 * head_values // 5)


class _VocabularyLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        softcap: float | None,
        scale: float,
        targets: _Targets,
        most_tokens: int,
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Summed over chunks in float32, whatever the dtype of the parameter.
        gradients = _Gradients(
            *(
                torch.zeros_like(tensor, dtype=targets.real_shares.dtype)
                if tensor is not None and tensor.requires_grad and with_gradient
                else None
                for tensor in (hidden, weight, bias)
            )
        )
        head = Head(weight, bias, softcap, scale).in_autocast_dtype()
        cross_entropy, kl = targets.real_shares.new_zeros(()), targets.real_shares.new_zeros(())
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), most_tokens):
                _add_chunk(slice(start, start + most_tokens), hidden, head, targets, (cross_entropy, kl), gradients)
        ctx.gradients = [
            None if gradient is None or tensor is None else gradient.to(tensor.dtype)
            for gradient, tensor in zip(gradients, (hidden, weight, bias), strict=True)
        ]
        ctx.mark_non_differentiable(cross_entropy, kl)
        return cross_entropy + targets.kl_weight * kl, cross_entropy, kl

    @staticmethod
    def backward(ctx: Any, scale: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the vocabulary loss can be differentiated once: its gradients are scaled in place")
        gradients, ctx.gradients = ctx.gradients, None  # so that the parameters can take them over without a copy
        return (*(gradient if gradient is None else gradient.mul_(scale) for gradient in gradients), *[None] * 5)


class _Gradients(NamedTuple):
    """Those that somebody needs, of what a chunk adds to."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None


def _add_chunk(
    tokens: slice,
    hidden: Tensor,
    head: Head,
    targets: _Targets,
    losses: tuple[Tensor, Tensor],
    gradients: _Gradients,
) -> None:
    """Add the losses of some tokens, and what they do to the gradients, in place."""
    hidden = hidden[tokens].to(head.weight.dtype)
    logit_gradient = _chunk_gradient(head.logits(hidden), head, targets.at(tokens), losses)
    if not any(gradient is not None for gradient in gradients):
        return
    if gradients.bias is not None:
        gradients.bias.add_(logit_gradient.sum(0))
    logit_gradient = logit_gradient.to(head.weight.dtype)
    if gradients.hidden is not None:
        gradients.hidden[tokens] = logit_gradient @ head.weight
    if gradients.weight is not None and gradients.weight.dtype == hidden.dtype:
        gradients.weight.addmm_(logit_gradient.t(), hidden)
    elif gradients.weight is not None:
        gradients.weight.add_(logit_gradient.t() @ hidden)


def _chunk_gradient(logits: Tensor, head: Head, targets: _Targets, losses: tuple[Tensor, Tensor]) -> Tensor:
    """Add the losses of a chunk in place, and return their gradient with respect to its logits before the cap."""
    cross_entropy, kl = losses
    log_probabilities = token_log_probabilities(logits)
    gradient: Tensor | None = None
    if targets.teacher_hidden is not None and targets.teacher_head is not None:
        student = (
            log_probabilities if targets.temperature == 1 else token_log_probabilities(logits, targets.temperature)
        )
        teacher = token_log_probabilities(targets.teacher_head.logits(targets.teacher_hidden), targets.temperature)
        shares = targets.real_shares
        kl.add_((token_kl_divergence(student, teacher) * shares).sum(), alpha=targets.temperature**2)
        gradient = _kl_gradient(student, teacher, targets.kl_weight * shares, targets.temperature)
    if targets.labels is not None and targets.label_shares is not None:
        cross_entropy.add_((token_cross_entropy(log_probabilities, targets.labels) * targets.label_shares).sum())
        second = _cross_entropy_gradient(log_probabilities, targets.labels, targets.label_shares)
        gradient = second if gradient is None else gradient.add_(second)
    assert gradient is not None
    return head.uncapped_gradient(gradient, logits)
