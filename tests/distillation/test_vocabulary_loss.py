"""The losses on logits chunk by chunk: equal to those of whole logits, which are never there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from loss_models import HIDDEN, INPUT_IDS, LAYERS, MASK, VOCABULARY, batch, gradient_of, pair_of, random
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from boomerang_cli.engine.distillation.losses import (
    cross_entropy_loss,
    distillation_loss,
    kl_divergence_loss,
    next_token_labels,
)
from boomerang_cli.engine.distillation.vocabulary_loss import vocabulary_loss
from boomerang_cli.engine.models.head import Head


def whole_logits_loss(
    hidden: Tensor,
    head: Head,
    teacher_hidden: Tensor,
    teacher_head: Head,
    labels: Tensor,
    mask: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor]:
    def logits_of(states: Tensor, head: Head) -> Tensor:
        logits = head.scale * F.linear(states, head.weight, head.bias)
        return logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)

    logits = logits_of(hidden, head)
    cross_entropy = cross_entropy_loss(logits, labels)
    kl = kl_divergence_loss(logits, logits_of(teacher_hidden, teacher_head), mask, temperature)
    return cross_entropy + 0.1 * kl, cross_entropy, kl


def random_head(*, bias: bool, softcap: float | None, seed: int, trained: bool) -> Head:
    """Return a head with every trait or none: a scale comes with the cap."""
    weight = random(VOCABULARY, HIDDEN, seed=seed).requires_grad_(trained)
    own_bias = random(VOCABULARY, seed=seed + 1).requires_grad_(trained) if bias else None
    return Head(weight, own_bias, softcap, 1.0 if softcap is None else 0.5)


@pytest.mark.parametrize("tokens_in_chunk", [1, 7, 25, 1000])
@pytest.mark.parametrize(("bias", "softcap", "temperature"), [(False, None, 1.0), (True, 3.0, 2.0)])
def test_chunks_give_the_loss_and_gradients_of_whole_logits(
    tokens_in_chunk: int, bias: bool, softcap: float | None, temperature: float
) -> None:
    hidden, teacher_hidden = random(*MASK.shape, HIDDEN).requires_grad_(), random(*MASK.shape, HIDDEN, seed=1)
    head = random_head(bias=bias, softcap=softcap, seed=2, trained=True)
    teacher_head = random_head(bias=bias, softcap=softcap, seed=4, trained=False)
    labels = next_token_labels(INPUT_IDS, MASK)
    expected = whole_logits_loss(hidden, head, teacher_hidden, teacher_head, labels, MASK, temperature)
    ours = vocabulary_loss(
        hidden,
        head,
        labels=labels,
        teacher_hidden=teacher_hidden,
        teacher_head=teacher_head,
        attention_mask=MASK,
        temperature=temperature,
        chunk_bytes=tokens_in_chunk * 4 * VOCABULARY,
    )
    torch.testing.assert_close(ours, expected)
    trained = [tensor for tensor in (hidden, head.weight, head.bias) if tensor is not None]
    # Twice the loss: backward has to scale what forward formed.
    torch.testing.assert_close(torch.autograd.grad(2 * ours[0], trained), torch.autograd.grad(2 * expected[0], trained))


@pytest.mark.parametrize("part", ["cross_entropy", "kl"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_one_part_alone_gives_its_own_gradient(part: str, temperature: float) -> None:
    hidden, teacher_hidden = random(*MASK.shape, HIDDEN).requires_grad_(), random(*MASK.shape, HIDDEN, seed=1)
    head = random_head(bias=True, softcap=None, seed=2, trained=True)
    teacher_head = random_head(bias=True, softcap=None, seed=4, trained=False)
    labels = next_token_labels(INPUT_IDS, MASK)
    _, cross_entropy, kl = whole_logits_loss(hidden, head, teacher_hidden, teacher_head, labels, MASK, temperature)
    ours, *_ = vocabulary_loss(
        hidden,
        head,
        labels=labels if part == "cross_entropy" else None,
        teacher_hidden=teacher_hidden if part == "kl" else None,
        teacher_head=teacher_head if part == "kl" else None,
        attention_mask=MASK,
        temperature=temperature,
    )
    expected = cross_entropy if part == "cross_entropy" else 0.1 * kl
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(gradient_of(ours, hidden), gradient_of(expected, hidden))


@pytest.mark.parametrize("frozen", ["hidden", "head"])
def test_what_is_frozen_gets_no_gradient_and_changes_no_other(frozen: str) -> None:
    hidden = random(*MASK.shape, HIDDEN).requires_grad_(frozen != "hidden")
    head = random_head(bias=True, softcap=None, seed=2, trained=frozen != "head")
    labels = next_token_labels(INPUT_IDS, MASK)
    trained = [tensor for tensor in (hidden, head.weight, head.bias) if tensor is not None and tensor.requires_grad]
    ours, *_ = vocabulary_loss(hidden, head, labels=labels)
    expected = cross_entropy_loss(F.linear(hidden, head.weight, head.bias), labels)
    torch.testing.assert_close(torch.autograd.grad(ours, trained), torch.autograd.grad(expected, trained))


def test_without_gradients_nothing_can_be_differentiated() -> None:
    hidden = random(*MASK.shape, HIDDEN).requires_grad_()
    head = random_head(bias=False, softcap=None, seed=2, trained=True)
    with torch.no_grad():
        total, *_ = vocabulary_loss(hidden, head, labels=next_token_labels(INPUT_IDS, MASK))
    assert not total.requires_grad


def test_a_second_backward_is_refused() -> None:
    hidden = random(*MASK.shape, HIDDEN).requires_grad_()
    head = random_head(bias=False, softcap=None, seed=2, trained=True)
    total, *_ = vocabulary_loss(hidden, head, labels=next_token_labels(INPUT_IDS, MASK))
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once"):
        total.backward()


def test_under_autocast_only_the_products_with_the_heads_are_in_bfloat16() -> None:
    hidden = random(*MASK.shape, HIDDEN, dtype=torch.float32).requires_grad_()
    head = Head(random(VOCABULARY, HIDDEN, dtype=torch.float32).requires_grad_())
    with Logits() as logits, torch.autocast("cpu", dtype=torch.bfloat16):
        vocabulary_loss(hidden, head, labels=INPUT_IDS, teacher_hidden=hidden.detach(), teacher_head=head)
    halves = {name for name, dtype in logits.operations if dtype == torch.bfloat16}
    assert halves <= {"aten.mm.default", "aten._to_copy.default", "aten.t.default"}
    assert {dtype for name, dtype in logits.operations if name == "aten.mm.default"} == {torch.bfloat16}


class Logits(TorchDispatchMode):
    """Notes each tensor with a vocabulary dimension that is not as large as a head's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: set[tuple[str, torch.dtype]] = set()
        self.most_elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and VOCABULARY in tensor.shape and HIDDEN not in tensor.shape:
                self.operations.add((str(func), tensor.dtype))
                self.most_elements = max(self.most_elements, tensor.numel())
        return result


def test_no_tensor_holds_the_logits_of_more_than_a_chunk() -> None:
    student, teacher = pair_of("gemma2")
    with Logits() as logits:
        losses = distillation_loss(student, teacher, LAYERS, batch(), chunk_bytes=3 * 4 * VOCABULARY)
        losses.total.backward()
    assert logits.most_elements == 3 * VOCABULARY
