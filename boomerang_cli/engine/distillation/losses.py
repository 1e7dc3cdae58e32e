"""The distillation loss of a batch, and its parts on whole tensors; ``vocabulary_loss.py`` has two chunk by chunk.

Loss a token (arXiv 2510.05064; FACTS.md 1): ``CE + kl_weight * tau^2 * KL(teacher || student) + cosine_weight / A *
sum over the A aligned states of (1 - cos)``, or of the relative squared error instead. Each part is a mean over its
real positions.

On responses alone (arXiv 2608.22854) each part is a mean over the positions whose next token is a response's: the
states there, and the logits that are made of them, are what a response is written with.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from boomerang_cli.engine.distillation.recipe import Alignment
from boomerang_cli.engine.distillation.relative_error import relative_error_loss
from boomerang_cli.engine.distillation.vocabulary_loss import Counted, real_positions, shares_of, vocabulary_loss
from boomerang_cli.engine.models.head import (
    IGNORED_LABEL,
    Head,
    at_least_float32,
    token_cross_entropy,
    token_kl_divergence,
    token_log_probabilities,
)
from boomerang_cli.engine.models.hidden_states import hidden_states_at
from boomerang_cli.engine.pair.layers import LayerMap


class DistillationLosses(NamedTuple):
    """Scalars on the device. ``total`` can be differentiated, the parts cannot; a part that is switched off is 0.

    Attributes:
        kl: tau^2 * KL, before its weight.
        cosine: the mean over aligned states and real positions of 1 - cos, or of the relative squared error, before its
            weight.
    """

    total: Tensor
    cross_entropy: Tensor
    kl: Tensor
    cosine: Tensor


def distillation_loss(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    layer_map: LayerMap,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    counted: Counted | None = None,
    *,
    kl_weight: float = 0.1,
    cosine_weight: float = 2.0,
    temperature: float = 1.0,
    cross_entropy: bool = True,
    kl: bool = True,
    cosine: bool = True,
    alignment: Alignment = "cosine",
    patched: Collection[int] = (),
    chunk_bytes: int | None = None,
) -> DistillationLosses:
    """Return the loss of one batch. What a part that is switched off would need is not computed.

    Args:
        student: or the model in which the blocks in ``patched`` are the teacher's.
        input_ids: ``[batch, sequence]``.
        attention_mask: ``[batch, sequence]``, 1 at real positions; None means that all are.
        counted: the positions that all parts are taken of, instead of the real ones.
        cosine_weight: the total over all aligned states.
        chunk_bytes: see ``vocabulary_loss``.
    """
    aligned = layer_map.states_at_blocks(patched) if cosine else ()
    teacher_states: dict[int, Tensor] = {}
    if kl or cosine:
        # Not inference mode: its tensors cannot be saved for the backward pass of the cosine loss, and copies of them
        # would cost more than the version counters that it saves.
        with torch.no_grad(), _without_needless_autocast(teacher):
            teacher_states = hidden_states_at(
                teacher, input_ids, attention_mask, [index for _, index in aligned], layer_map.teacher_layers
            )
    student_states = hidden_states_at(
        student, input_ids, attention_mask, [index for index, _ in aligned], len(layer_map.sources(patched))
    )

    zero = torch.zeros((), device=input_ids.device)
    losses = DistillationLosses(zero, zero, zero, zero)
    if cross_entropy or kl:
        labels = next_token_labels(input_ids, attention_mask) if cross_entropy else None
        losses = DistillationLosses(
            *vocabulary_loss(
                _at(counted, student_states[-1]),
                Head.of(student),
                labels=None if labels is None else _at(counted, labels),
                teacher_hidden=_at(counted, teacher_states[-1]) if kl else None,
                teacher_head=Head.of(teacher) if kl else None,
                attention_mask=attention_mask if counted is None else None,
                kl_weight=kl_weight,
                temperature=temperature,
                chunk_bytes=chunk_bytes,
                tokens=None if counted is None else counted.tokens,
            ),
            cosine=zero,
        )
    if cosine:
        distance_of = {"cosine": cosine_loss, "relative": relative_error_loss}[alignment]
        distance = distance_of(
            [student_states[index] for index, _ in aligned],
            [teacher_states[index] for _, index in aligned],
            attention_mask if counted is None else counted.positions,
            None if counted is None else counted.tokens,
        )
        losses = losses._replace(total=losses.total + cosine_weight * distance, cosine=distance.detach())
    return losses


def _at(counted: Counted | None, values: Tensor) -> Tensor:
    """Return ``[1, tokens, …]``, what is counted of ``[batch, sequence, …]``: prompts need no logits."""
    return values if counted is None else values[counted.positions].unsqueeze(0)


def cross_entropy_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of ``-log softmax(logits)[label]`` over the labels that are not ignored (FACTS.md 1).

    Args:
        logits: ``[batch, sequence, vocabulary]``.
        labels: ``[batch, sequence]``, the token after each position, as ``next_token_labels`` makes them.
    """
    log_probabilities = token_log_probabilities(logits)
    shares = shares_of(labels != IGNORED_LABEL, log_probabilities.dtype)
    return (token_cross_entropy(log_probabilities, labels) * shares).sum()


def kl_divergence_loss(
    student_logits: Tensor, teacher_logits: Tensor, attention_mask: Tensor | None = None, temperature: float = 1.0
) -> Tensor:
    """Return the mean of ``tau^2 * KL(softmax(teacher / tau) || softmax(student / tau))`` over all real positions.

    FACTS.md 1; tau^2 keeps the size of the gradient (arXiv 1503.02531, section 2). The teacher gets no gradient.

    Args:
        student_logits, teacher_logits: ``[batch, sequence, vocabulary]``.
        attention_mask: ``[batch, sequence]``, 1 at real positions; None means that all are.
    """
    student = token_log_probabilities(student_logits, temperature)
    teacher = token_log_probabilities(teacher_logits.detach(), temperature)
    divergence = token_kl_divergence(student, teacher)
    return temperature**2 * (divergence * shares_of(real_positions(divergence, attention_mask), divergence.dtype)).sum()


def cosine_loss(
    student_states: Sequence[Tensor],
    teacher_states: Sequence[Tensor],
    attention_mask: Tensor | None = None,
    tokens: float | None = None,
) -> Tensor:
    """Return the mean over aligned states of the mean over real positions of ``1 - cos(student, teacher)``.

    FACTS.md 1; computed in float32. The teacher gets no gradient. Beside the states as they are given, autograd keeps
    only a few numbers a token: ``F.cosine_similarity`` would keep a float32 copy of each of a half-precision teacher's.

    Args:
        student_states, teacher_states: one of ``[batch, sequence, hidden]`` for each aligned state.
        attention_mask: ``[batch, sequence]``, 1 at real positions; None means that all are.
        tokens: what a state's sum is divided by; None is the number of real positions.
    """
    losses = []
    for student_state, teacher_state in zip(student_states, teacher_states, strict=True):
        # Under autocast the student's states are float32 already, and a product is as wide as its wider factor.
        student, teacher = at_least_float32(student_state), teacher_state.detach()
        norms = _norm(student) * _norm(teacher)
        distance = 1 - (student * teacher).sum(-1) / norms.clamp(min=1e-8)
        losses.append((distance * shares_of(real_positions(distance, attention_mask), distance.dtype, tokens)).sum())
    return torch.stack(losses).mean()


def next_token_labels(input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Return the token after each position, ``[batch, sequence]``; ignored where either of the two is padding."""
    real = torch.ones_like(input_ids).bool() if attention_mask is None else attention_mask.bool()
    follows = real & real.roll(-1, dims=1)
    follows[:, -1] = False
    return input_ids.roll(-1, dims=1).masked_fill(~follows, IGNORED_LABEL)


def _norm(states: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(states, dim=-1, dtype=torch.promote_types(states.dtype, torch.float32))
    return norm


def _without_needless_autocast(model: PreTrainedModel) -> torch.autocast:
    """Half-precision weights need no autocast: it would only widen their norms and residuals to float32."""
    device_type = model.device.type
    enabled = torch.is_autocast_enabled(device_type) and model.dtype == torch.float32
    return torch.autocast(device_type, enabled=enabled)
