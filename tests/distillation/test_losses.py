"""The losses against plain float64 sums, and the chunked path against whole logits."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

from boomerang_cli.engine.distillation.losses import (
    cosine_loss,
    cross_entropy_loss,
    distillation_loss,
    kl_divergence_loss,
    next_token_labels,
)
from boomerang_cli.engine.distillation.vocabulary_loss import IGNORED_LABEL, vocabulary_loss
from boomerang_cli.engine.errors import UnsupportedModelError
from boomerang_cli.engine.models.head import Head
from boomerang_cli.engine.models.hidden_states import decoder_layers, hidden_states_at
from boomerang_cli.engine.pair.layers import LayerMap

VOCABULARY = 31
HIDDEN = 16
LAYERS = LayerMap(5, (0, 2, 4))

# Left and right padding, a row of one token, a row without any.
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 1, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
INPUT_IDS = torch.randint(0, VOCABULARY, MASK.shape, generator=torch.Generator().manual_seed(1))

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "gpt_neox": GPTNeoXConfig(**SIZES, num_hidden_layers=5),
    "llama": LlamaConfig(**SIZES, num_hidden_layers=5),
    "qwen3": Qwen3Config(**SIZES, num_hidden_layers=5, tie_word_embeddings=True),
    "gemma2": Gemma2Config(**SIZES, num_hidden_layers=5, final_logit_softcapping=2.0),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=HIDDEN, n_layer=5, n_head=2, bos_token_id=1, eos_token_id=2),
    "opt": OPTConfig(**{**SIZES, "num_hidden_layers": 5}, ffn_dim=24, word_embed_proj_dim=8),
}


def model_of(family: str, *, layers: int = 5, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    settings = CONFIGS[family].to_diff_dict()
    settings.pop("layer_types", None)
    config = type(CONFIGS[family])(**{**settings, "num_hidden_layers": layers})
    return AutoModelForCausalLM.from_config(config).eval()


def pair_of(family: str) -> tuple[PreTrainedModel, PreTrainedModel]:
    return model_of(family, layers=LAYERS.student_layers, seed=1), model_of(family)


def batch(rows: int = 2, length: int = 7) -> Tensor:
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(2))


def random(*shape: int, seed: int = 0, **options: Any) -> Tensor:
    options = {"dtype": torch.float64, **options}
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **options)


def gradient_of(loss: Tensor, tensor: Tensor) -> Tensor:
    return torch.autograd.grad(loss, tensor, retain_graph=True)[0]


def real_positions() -> list[tuple[int, int]]:
    return [(row, position) for row, position in MASK.nonzero().tolist()]


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


def test_a_batch_without_a_real_token_costs_nothing(logits: Tensor) -> None:
    nothing = torch.zeros_like(MASK)
    total = cross_entropy_loss(logits, next_token_labels(INPUT_IDS, nothing))
    total = total + kl_divergence_loss(logits, logits.detach() + 1, nothing)
    assert total.item() == 0
    assert not gradient_of(total, logits).any()


# Chunk by chunk against whole logits


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
        logits = F.linear(states, head.weight, head.bias)
        return logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)

    logits = logits_of(hidden, head)
    cross_entropy = cross_entropy_loss(logits, labels)
    kl = kl_divergence_loss(logits, logits_of(teacher_hidden, teacher_head), mask, temperature)
    return cross_entropy + 0.1 * kl, cross_entropy, kl


def random_head(*, bias: bool, softcap: float | None, seed: int, trained: bool) -> Head:
    weight = random(VOCABULARY, HIDDEN, seed=seed).requires_grad_(trained)
    return Head(weight, random(VOCABULARY, seed=seed + 1).requires_grad_(trained) if bias else None, softcap)


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


def test_under_autocast_only_the_products_with_the_heads_are_in_bfloat16() -> None:
    hidden = random(*MASK.shape, HIDDEN, dtype=torch.float32).requires_grad_()
    head = Head(random(VOCABULARY, HIDDEN, dtype=torch.float32).requires_grad_())
    with Logits() as logits, torch.autocast("cpu", dtype=torch.bfloat16):
        vocabulary_loss(hidden, head, labels=INPUT_IDS, teacher_hidden=hidden.detach(), teacher_head=head)
    halves = {name for name, dtype in logits.operations if dtype == torch.bfloat16}
    assert halves <= {"aten.mm.default", "aten._to_copy.default", "aten.t.default"}
    assert {dtype for name, dtype in logits.operations if name == "aten.mm.default"} == {torch.bfloat16}


# Memory


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


# Hidden states


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_states_are_those_that_transformers_numbers(family: str) -> None:
    model = model_of(family)
    expected = model(batch(), output_hidden_states=True).hidden_states
    states = hidden_states_at(model, batch(), None, [0, 2, 4, -1])
    assert sorted(states) == [-1, 0, 2, 4]
    for index, state in states.items():
        torch.testing.assert_close(state, expected[index])


def test_only_the_states_asked_for_are_kept_and_no_hook_stays() -> None:
    model = model_of("llama")
    assert sorted(hidden_states_at(model, batch(), None, [3])) == [-1, 3]
    assert not any(layer._forward_pre_hooks for layer in decoder_layers(model))


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_gradients_flow_through_checkpointed_layers() -> None:
    student, teacher = pair_of("llama")
    twin = copy.deepcopy(student).train()
    twin.gradient_checkpointing_enable()
    for model in (student, twin):
        distillation_loss(model, teacher, LAYERS, batch()).total.backward()
    torch.testing.assert_close([p.grad for p in twin.parameters()], [p.grad for p in student.parameters()])


def test_a_model_without_a_list_of_layers_is_named() -> None:
    model = model_of("llama")
    model.config.num_hidden_layers = 9
    with pytest.raises(UnsupportedModelError, match="LlamaForCausalLM holds no list of 9 layers"):
        decoder_layers(model)
