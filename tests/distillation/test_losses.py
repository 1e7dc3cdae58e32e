"""The losses against plain float64 sums, and the total of real models against the long way."""

from __future__ import annotations

import copy

import pytest
import torch
from loss_models import HIDDEN, INPUT_IDS, LAYERS, MASK, VOCABULARY, batch, gradient_of, pair_of, random, real_positions
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from boomerang_cli.engine.distillation.losses import (
    cosine_loss,
    cross_entropy_loss,
    distillation_loss,
    kl_divergence_loss,
    next_token_labels,
)
from boomerang_cli.engine.models.head import IGNORED_LABEL

# The three losses against sums written out position by position


@pytest.fixture
def logits() -> Tensor:
    return (3 * random(*MASK.shape, VOCABULARY)).requires_grad_()


def test_labels_are_the_next_real_token_of_a_real_token() -> None:
    expected = torch.full_like(INPUT_IDS, IGNORED_LABEL)
    for row, position in real_positions():
        if (row, position + 1) in real_positions():
            expected[row, position] = INPUT_IDS[row, position + 1]
    assert torch.equal(next_token_labels(INPUT_IDS, MASK), expected)


def test_cross_entropy_is_the_mean_over_real_next_tokens(logits: Tensor) -> None:
    labels = next_token_labels(INPUT_IDS, MASK)
    terms = [
        -(logits[row, position].exp() / logits[row, position].exp().sum()).log()[labels[row, position]]
        for row, position in real_positions()
        if labels[row, position] != IGNORED_LABEL
    ]
    expected = sum(terms) / len(terms)
    ours = cross_entropy_loss(logits, labels)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(gradient_of(ours, logits), gradient_of(expected, logits))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_kl_is_the_mean_over_real_positions_times_the_squared_temperature(logits: Tensor, temperature: float) -> None:
    teacher = 3 * random(*MASK.shape, VOCABULARY, seed=1)
    terms = []
    for at in real_positions():
        p = (teacher[at] / temperature).exp() / (teacher[at] / temperature).exp().sum()
        q = (logits[at] / temperature).exp() / (logits[at] / temperature).exp().sum()
        terms.append(temperature**2 * (p * (p / q).log()).sum())
    expected = sum(terms) / len(terms)
    ours = kl_divergence_loss(logits, teacher, MASK, temperature)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(gradient_of(ours, logits), gradient_of(expected, logits))


def test_cosine_is_the_mean_over_states_of_the_mean_over_real_positions() -> None:
    student = [random(*MASK.shape, HIDDEN, seed=seed).requires_grad_() for seed in (0, 1, 2)]
    teacher = [random(*MASK.shape, HIDDEN, seed=seed) for seed in (3, 4, 5)]
    terms = [
        1 - (s[at] @ t[at]) / (s[at].square().sum().sqrt() * t[at].square().sum().sqrt())
        for s, t in zip(student, teacher, strict=True)
        for at in real_positions()
    ]
    expected = sum(terms) / len(terms)
    ours = cosine_loss(student, teacher, MASK)
    torch.testing.assert_close(ours, expected)
    for state in student:
        torch.testing.assert_close(gradient_of(ours, state), gradient_of(expected, state))


def test_cosine_of_half_precision_states_is_computed_in_float32() -> None:
    student = random(2, 3, HIDDEN, dtype=torch.bfloat16)
    teacher = random(2, 3, HIDDEN, seed=1, dtype=torch.bfloat16)
    torch.testing.assert_close(cosine_loss([student], [teacher]), cosine_loss([student.float()], [teacher.float()]))


def test_cosine_keeps_nothing_but_the_states_for_backward() -> None:
    student = random(2, 3, HIDDEN, dtype=torch.float32).requires_grad_()
    teacher = random(2, 3, HIDDEN, seed=1, dtype=torch.bfloat16)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        cosine_loss([student], [teacher])
    kept = {tensor.data_ptr() for tensor in saved if tensor.numel() >= student.numel()}
    assert kept == {student.data_ptr(), teacher.data_ptr()}


def test_the_teacher_gets_no_gradient(logits: Tensor) -> None:
    teacher = random(*logits.shape, seed=1).requires_grad_()
    (kl_divergence_loss(logits, teacher) + cosine_loss([logits], [teacher])).backward()  # type: ignore[no-untyped-call]
    assert teacher.grad is None


def test_a_batch_without_a_real_token_costs_nothing(logits: Tensor) -> None:
    nothing = torch.zeros_like(MASK)
    total = cross_entropy_loss(logits, next_token_labels(INPUT_IDS, nothing))
    total = total + kl_divergence_loss(logits, logits.detach() + 1, nothing)
    assert total.item() == 0
    assert not gradient_of(total, logits).any()


# The whole loss on real models


def long_way(student: PreTrainedModel, teacher: PreTrainedModel, input_ids: Tensor) -> Tensor:
    """The formula of the paper, from full logits and all hidden states, of an unpadded batch."""
    with torch.no_grad():
        theirs = teacher(input_ids, output_hidden_states=True)
    ours = student(input_ids, output_hidden_states=True)
    cross_entropy = F.cross_entropy(ours.logits[:, :-1].flatten(0, 1), input_ids[:, 1:].flatten())
    kl = F.kl_div(ours.logits.log_softmax(-1), theirs.logits.log_softmax(-1), reduction="none", log_target=True)
    distances = [
        (1 - F.cosine_similarity(ours.hidden_states[s], theirs.hidden_states[t], dim=-1)).mean()
        for s, t in LAYERS.aligned_states
    ]
    return cross_entropy + 0.1 * kl.sum(-1).mean() + 2.0 / len(distances) * sum(distances)


@pytest.mark.parametrize("family", ["gpt_neox", "llama", "qwen3", "gemma2"])
def test_the_total_and_all_gradients_equal_the_long_way(family: str) -> None:
    student, teacher = pair_of(family)
    twin = copy.deepcopy(student)
    ours = distillation_loss(student, teacher, LAYERS, batch(), chunk_bytes=5 * 4 * VOCABULARY)
    expected = long_way(twin, teacher, batch())
    ours.total.backward()
    expected.backward()
    torch.testing.assert_close(ours.total, expected)
    for (name, parameter), other in zip(student.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, msg=lambda text, name=name: f"{name}: {text}")
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("family", ["gpt_neox", "gemma2"])
def test_padding_to_the_right_changes_nothing(family: str) -> None:
    student, teacher = pair_of(family)
    input_ids = batch(rows=1)
    padded, mask = F.pad(input_ids, (0, 4)), F.pad(torch.ones_like(input_ids), (0, 4))
    torch.testing.assert_close(
        distillation_loss(student, teacher, LAYERS, padded, mask),
        distillation_loss(student, teacher, LAYERS, input_ids),
    )


def test_the_parts_add_up_to_the_total() -> None:
    losses = distillation_loss(*pair_of("llama"), LAYERS, batch(), kl_weight=0.3, cosine_weight=1.5)
    torch.testing.assert_close(losses.total, losses.cross_entropy + 0.3 * losses.kl + 1.5 * losses.cosine)
    assert [part.requires_grad for part in losses] == [True, False, False, False]


@pytest.mark.parametrize("off", ["cross_entropy", "kl", "cosine"])
def test_a_part_that_is_switched_off_is_zero_and_leaves_the_others(off: str) -> None:
    student, teacher = pair_of("gemma2")
    whole = distillation_loss(student, teacher, LAYERS, batch())
    losses = distillation_loss(student, teacher, LAYERS, batch(), **{off: False})
    expected = {name: value for name, value in whole._asdict().items() if name != "total"} | {off: torch.tensor(0.0)}
    torch.testing.assert_close({name: value for name, value in losses._asdict().items() if name != "total"}, expected)


def test_cross_entropy_alone_never_runs_the_teacher() -> None:
    student, teacher = pair_of("llama")
    teacher.base_model.register_forward_pre_hook(lambda *_: pytest.fail("the teacher ran"))
    losses = distillation_loss(student, teacher, LAYERS, batch(), kl=False, cosine=False)
    torch.testing.assert_close(losses.total, losses.cross_entropy)


@pytest.mark.parametrize("kl", [True, False])
def test_heads_run_only_for_losses_on_logits(kl: bool) -> None:
    student, teacher = pair_of("llama")
    student.lm_head, teacher.lm_head = nn.Identity(), nn.Identity()  # no weight to project with
    if kl:
        with pytest.raises(AttributeError):
            distillation_loss(student, teacher, LAYERS, batch(), cross_entropy=False)
    else:
        assert distillation_loss(student, teacher, LAYERS, batch(), cross_entropy=False, kl=False).cosine > 0


def test_a_bias_in_the_heads_is_part_of_the_logits() -> None:
    student, teacher = pair_of("llama")
    for model in (student, teacher):
        model.lm_head = nn.Linear(HIDDEN, VOCABULARY, bias=True)
    ours, expected = distillation_loss(student, teacher, LAYERS, batch()).total, long_way(student, teacher, batch())
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(gradient_of(ours, student.lm_head.bias), gradient_of(expected, student.lm_head.bias))


@pytest.mark.parametrize("teacher_dtype", [torch.float32, torch.bfloat16])
def test_autocast_gives_the_loss_and_gradients_to_its_precision(teacher_dtype: torch.dtype) -> None:
    student, teacher = pair_of("gemma2")
    exact = distillation_loss(student, teacher, LAYERS, batch())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = distillation_loss(student, teacher.to(teacher_dtype), LAYERS, batch())
    torch.testing.assert_close(losses, exact, rtol=0.05, atol=0.01)
    assert {part.dtype for part in losses} == {torch.float32}
    ours, expected = (gradient_of(each.total, student.lm_head.weight) for each in (losses, exact))
    torch.testing.assert_close(ours, expected, rtol=0.05, atol=0.02)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_gradients_flow_through_checkpointed_layers() -> None:
    student, teacher = pair_of("llama")
    twin = copy.deepcopy(student).train()
    twin.gradient_checkpointing_enable()
    for model in (student, twin):
        distillation_loss(model, teacher, LAYERS, batch()).total.backward()
    torch.testing.assert_close([p.grad for p in twin.parameters()], [p.grad for p in student.parameters()])
