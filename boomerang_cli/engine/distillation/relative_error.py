"""How far a student's hidden states are from its teacher's, against the length of these.

A cosine leaves the length of a state free. In a model between the two, layers of the teacher's meet the student's
states as they are: beside what they add themselves, a state that is too long or too short is a wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from boomerang_cli.engine.distillation.vocabulary_loss import real_positions, shares_of
from boomerang_cli.engine.models.head import at_least_float32

_LEAST = 1e-8
"""Of a squared length that is divided by."""


def relative_error_loss(
    student_states: Sequence[Tensor],
    teacher_states: Sequence[Tensor],
    attention_mask: Tensor | None = None,
    tokens: float | None = None,
) -> Tensor:
    """Return the mean over aligned states of the mean over real positions of ``|student - teacher|^2 / |teacher|^2``.

    Computed in float32, from the difference itself: a sum of squares and products would lose it where the two are near.
    Beside the states as they are given, autograd keeps one number a token. The teacher gets no gradient.

    Args:
        student_states, teacher_states: one of ``[batch, sequence, hidden]`` for each aligned state.
        attention_mask: ``[batch, sequence]``, 1 at real positions; None means that all are.
        tokens: what a state's sum is divided by; None is the number of real positions.
    """
    losses = []
    for student, teacher in zip(student_states, teacher_states, strict=True):
        dtype = torch.promote_types(teacher.dtype, torch.float32)
        shares = shares_of(real_positions(teacher[..., 0], attention_mask), dtype, tokens)
        losses.append(_RelativeError.apply(student, teacher.detach(), shares))  # type: ignore[no-untyped-call]
    return torch.stack(losses).mean()


class _RelativeError(torch.autograd.Function):
    """``sum of shares * |student - teacher|^2 / |teacher|^2`` over tokens; the difference is formed again backward."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, shares: Tensor) -> Tensor:
        scales = shares / _squared_length(teacher).clamp(min=_LEAST)
        ctx.save_for_backward(student, teacher, scales)
        return (_squared_length(_difference(student, teacher)) * scales).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        student, teacher, scales = ctx.saved_tensors
        change = _difference(student, teacher).mul_((2 * gradient * scales).unsqueeze(-1))
        return change.to(student.dtype), None, None


def _difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Return a new tensor, at least float32: a difference is as wide as its wider term."""
    return at_least_float32(student) - teacher


def _squared_length(states: Tensor) -> Tensor:
    dtype = torch.promote_types(states.dtype, torch.float32)
    length: Tensor = torch.linalg.vector_norm(states, dim=-1, dtype=dtype)
    return length.square()
