"""The loss of a patched batch, and its gradients, against the model that ``patch`` writes, the long way in float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from tiny_models import KEPT, LAYERS, layers_of, save_pair, text
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, PreTrainedModel

from boomerang_cli.engine.distillation.losses import DistillationLosses, distillation_loss
from boomerang_cli.engine.models.compose import LoadedPair, load_pair
from boomerang_cli.engine.models.patched_student import PatchedStudents
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.pair import open_pair
from boomerang_cli.engine.patch import patch

LAYER_MAP = LayerMap(LAYERS, KEPT)
FAMILIES = ["gpt_neox", "llama", "qwen3", "gemma2"]  # the last two are tied
# Blocks that are the teacher's; the layers that the model has then, and which of them begin a block.
MODELS: dict[tuple[int, ...], tuple[str, tuple[int, ...]]] = {
    (0,): ("t0 t1 s1 s2 s3 s4", (0, 2, 3, 4, 5)),
    (1,): ("s0 t2 t3 t4 s3 s4", (0, 1, 3, 4, 5)),
    (3,): ("s0 s1 t4 t5 t6 t7", (0, 1, 2, 3, 5)),
    (0, 3): ("t0 t1 s1 t4 t5 t6 t7", (0, 2, 3, 4, 6)),
}


@pytest.fixture(scope="module")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LoadedPair]:
    @cache
    def make(family: str) -> LoadedPair:
        _, student = save_pair(tmp_path_factory.mktemp(family), family)
        loaded = load_pair(open_pair(student), dtype=torch.float64)
        loaded.models["student"].requires_grad_(True)
        return loaded

    return make


def written(loaded: LoadedPair, blocks: tuple[int, ...], folder: Path) -> PreTrainedModel:
    patch(blocks=blocks, student=loaded.pair.student.folder, output=folder / "patched", overwrite=True)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder / "patched", dtype=torch.float64)
    return model.eval()


def long_way(model: PreTrainedModel, teacher: PreTrainedModel, begins: tuple[int, ...]) -> DistillationLosses:
    """From full logits and all hidden states, with the relative squared error."""
    with torch.no_grad():
        theirs = teacher(text(), output_hidden_states=True, use_cache=False)
    ours = model(text(), output_hidden_states=True, use_cache=False)
    cross_entropy = F.cross_entropy(ours.logits[:, :-1].flatten(0, 1), text()[:, 1:].flatten())
    p, q = theirs.logits.softmax(-1), ours.logits.softmax(-1)
    kl = (p * (p / q).log()).sum(-1).mean()
    terms = []
    for at, kept in zip((*begins, -1), (*KEPT, -1), strict=True):
        s, t = ours.hidden_states[at], theirs.hidden_states[kept]
        terms.append(((s - t).square().sum(-1) / t.square().sum(-1)).mean())
    relative = sum(terms) / len(terms)
    return DistillationLosses(cross_entropy + 0.1 * kl + 2.0 * relative, cross_entropy, kl, relative)


def lean_way(loaded: LoadedPair, blocks: tuple[int, ...]) -> DistillationLosses:
    model = PatchedStudents(loaded).model(blocks)
    teacher = loaded.models["teacher"]
    return distillation_loss(model, teacher, LAYER_MAP, text(), patched=blocks, alignment="relative")


@pytest.mark.parametrize("family", FAMILIES)
def test_its_loss_and_parts_are_those_of_the_written_model(
    family: str, pair_of: Callable[[str], LoadedPair], tmp_path: Path
) -> None:
    loaded = pair_of(family)
    for blocks, (_, begins) in MODELS.items():
        expected = long_way(written(loaded, blocks, tmp_path), loaded.models["teacher"], begins)
        torch.testing.assert_close(lean_way(loaded, blocks), expected, check_dtype=False, rtol=1e-9, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_its_gradients_are_those_of_the_written_model_where_that_is_the_students(
    family: str, pair_of: Callable[[str], LoadedPair], tmp_path: Path
) -> None:
    loaded = pair_of(family)
    student, teacher = loaded.models["student"], loaded.models["teacher"]
    for blocks, (layers, begins) in MODELS.items():
        model = written(loaded, blocks, tmp_path)
        long_way(model, teacher, begins).total.backward()
        student.zero_grad(set_to_none=True)
        lean_way(loaded, blocks).total.backward()
        expected = gradients_by_students_parameter(model, student, layers.split())
        for name, parameter in student.named_parameters():
            wanted = expected.get(id(parameter))
            assert (parameter.grad is None) == (wanted is None), (blocks, name)
            if wanted is not None:
                torch.testing.assert_close(parameter.grad, wanted, rtol=1e-7, atol=1e-9, msg=f"{blocks}: {name}")
        assert all(parameter.grad is None for parameter in teacher.parameters())


def gradients_by_students_parameter(
    model: PreTrainedModel, student: PreTrainedModel, layers: list[str]
) -> dict[int, Tensor]:
    """Return what a written model's tensors got, where they are the student's, by the identity of its parameter."""
    stack = next(name for name, module in model.named_modules() if module is layers_of(model))
    found: dict[int, Tensor] = {}
    for name, parameter in model.named_parameters():
        if name.startswith(f"{stack}."):
            index, _, rest = name.removeprefix(f"{stack}.").partition(".")
            owner, own_name = layers[int(index)][0], f"{stack}.{layers[int(index)][1:]}.{rest}"
        else:
            owner, own_name = layers[0 if "embed_tokens" in name or "embed_in" in name else -1][0], name
        if owner == "s":
            assert parameter.grad is not None
            found[id(student.get_parameter(own_name))] = parameter.grad
    return found


def test_a_state_that_only_the_teacher_has_made_costs_nothing(pair_of: Callable[[str], LoadedPair]) -> None:
    loaded = pair_of("llama")
    for alignment in ("cosine", "relative"):
        losses = distillation_loss(
            PatchedStudents(loaded).model((0, 1, 3)), loaded.models["teacher"], LAYER_MAP, text(),
            cross_entropy=False, patched=(0, 1, 3), alignment=alignment,
        )  # fmt: skip
        assert losses.total.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("blocks", [(0,), (3,)])
def test_a_teacher_of_half_precision_gives_its_loss_and_gradients_to_that_precision(
    family: str, blocks: tuple[int, ...], tmp_path: Path
) -> None:
    loaded = load_pair(open_pair(save_pair(tmp_path, family)[1]), dtype=torch.float32)
    student = loaded.models["student"].requires_grad_(True)
    exact = lean_way(loaded, blocks)
    exact.total.backward()
    gradients = {name: parameter.grad for name, parameter in student.named_parameters()}
    student.zero_grad(set_to_none=True)
    loaded.models["teacher"].to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = lean_way(loaded, blocks)
    losses.total.backward()
    torch.testing.assert_close(losses, exact, rtol=0.05, atol=0.02)
    for name, parameter in student.named_parameters():
        if (expected := gradients[name]) is not None:
            assert parameter.grad is not None
            assert F.cosine_similarity(parameter.grad.flatten(), expected.flatten(), dim=0) > 0.95, name


def test_a_teachers_blocks_of_half_precision_compute_what_the_teacher_does(tmp_path: Path) -> None:
    loaded = load_pair(open_pair(save_pair(tmp_path, "llama")[1]), dtype=torch.float32)
    loaded.models["teacher"].to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert lean_way(loaded, (0, 1, 3)).cosine == 0


def test_a_model_keeps_the_pairs_own_layers_and_nothing_is_thawed_or_frozen(
    pair_of: Callable[[str], LoadedPair],
) -> None:
    loaded = pair_of("qwen3")
    student, teacher = loaded.models["student"], loaded.models["teacher"]
    layers = layers_of(PatchedStudents(loaded).model((1,)))
    own = {"s": layers_of(student), "t": layers_of(teacher)}
    assert [*layers] == [own[name[0]][int(name[1:])] for name in MODELS[(1,)][0].split()]
    assert {parameter.requires_grad for parameter in student.parameters()} == {True}
    assert {parameter.requires_grad for parameter in teacher.parameters()} == {False}
