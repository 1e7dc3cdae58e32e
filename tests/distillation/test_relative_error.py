"""The relative squared error against sums written out position by position."""

from __future__ import annotations

import pytest
import torch
from loss_models import HIDDEN, MASK, gradient_of, random, real_positions
from torch import Tensor

from boomerang_cli.engine.distillation.relative_error import relative_error_loss


def test_it_is_the_mean_over_states_of_the_mean_over_real_positions() -> None:
    student = [random(*MASK.shape, HIDDEN, seed=seed).requires_grad_() for seed in (0, 1, 2)]
    teacher = [random(*MASK.shape, HIDDEN, seed=seed) for seed in (3, 4, 5)]
    terms = [
        (s[at] - t[at]).square().sum() / t[at].square().sum()
        for s, t in zip(student, teacher, strict=True)
        for at in real_positions()
    ]
    expected = sum(terms) / len(terms)
    ours = relative_error_loss(student, teacher, MASK)
    torch.testing.assert_close(ours, expected)
    for state in student:
        torch.testing.assert_close(gradient_of(5 * ours, state), gradient_of(5 * expected, state))


def test_where_responses_alone_count_their_sum_is_divided_by_their_number_in_the_step() -> None:
    student, teacher = random(*MASK.shape, HIDDEN), random(*MASK.shape, HIDDEN, seed=1)
    terms = [(student[at] - teacher[at]).square().sum() / teacher[at].square().sum() for at in real_positions()]
    torch.testing.assert_close(relative_error_loss([student], [teacher], MASK, tokens=7.5), sum(terms) / 7.5)


def test_a_state_of_another_length_is_a_wrong_one() -> None:
    teacher = random(2, 3, HIDDEN)
    assert relative_error_loss([3 * teacher], [teacher]).item() == pytest.approx(4)


def test_a_teachers_state_without_length_is_divided_by_no_zero() -> None:
    student = random(2, 3, HIDDEN).requires_grad_()
    loss = relative_error_loss([student], [torch.zeros(2, 3, HIDDEN, dtype=student.dtype)])
    assert loss.isfinite()
    assert gradient_of(loss, student).isfinite().all()


def test_the_teacher_gets_no_gradient() -> None:
    teacher = random(2, 3, HIDDEN, seed=1).requires_grad_()
    relative_error_loss([random(2, 3, HIDDEN).requires_grad_()], [teacher]).backward()  # type: ignore[no-untyped-call]
    assert teacher.grad is None


def test_it_keeps_its_digits_where_the_two_are_near() -> None:
    teacher = 1000 * random(2, 3, HIDDEN, dtype=torch.float32)
    student = teacher * (1 + 1e-4)
    expected = (student.double() - teacher).square().sum(-1) / teacher.double().square().sum(-1)
    assert relative_error_loss([student], [teacher]).item() == pytest.approx(expected.mean().item(), rel=1e-5)


def test_half_precision_states_are_compared_in_float32() -> None:
    student = random(2, 3, HIDDEN, dtype=torch.bfloat16).requires_grad_()
    teacher = random(2, 3, HIDDEN, seed=1, dtype=torch.bfloat16)
    ours = relative_error_loss([student], [teacher])
    torch.testing.assert_close(ours, relative_error_loss([student.float()], [teacher.float()]))
    assert gradient_of(ours, student).dtype == torch.bfloat16


def test_it_keeps_nothing_but_the_states_for_backward() -> None:
    student = random(2, 3, HIDDEN, dtype=torch.float32).requires_grad_()
    teacher = random(2, 3, HIDDEN, seed=1, dtype=torch.bfloat16)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        relative_error_loss([student], [teacher])
    kept = {tensor.data_ptr() for tensor in saved if tensor.numel() >= student.numel()}
    assert kept == {student.data_ptr(), teacher.data_ptr()}


def test_a_batch_without_a_real_token_costs_nothing() -> None:
    student = random(*MASK.shape, HIDDEN).requires_grad_()
    loss = relative_error_loss([student], [random(*MASK.shape, HIDDEN, seed=1)], torch.zeros_like(MASK))
    assert loss.item() == 0
    assert not gradient_of(loss, student).any()
