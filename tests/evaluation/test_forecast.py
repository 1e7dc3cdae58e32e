"""``init-student --delta --compare``: two deltas as vectors, by group of tensors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from delta_models import kept_weights, save_trio, save_weights, weights
from files import edit_json, names
from running import assert_refused, run
from tiny_models import KEPT, LAYERS

from boomerang_cli.engine.checkpoint.families import FAMILIES as TABLE
from boomerang_cli.engine.evaluation.forecast import GROUPS, Agreement, Forecast, group_of
from boomerang_cli.engine.init_student import init_student


@pytest.fixture
def trio(tmp_path: Path) -> Path:
    return save_trio(tmp_path)


def save_compared(trio: Path, delta: dict[str, torch.Tensor]) -> Path:
    """Write ``other``, the chat model's student with this delta of its own."""
    own = kept_weights(trio / "chat")
    other = init_student(trio / "chat", keep=KEPT, output=trio / "other").path
    save_weights(other, {name: tensor + delta[name] for name, tensor in own.items()})
    return other


def delta_of(trio: Path) -> dict[str, torch.Tensor]:
    base = kept_weights(trio / "base")
    return {name: tensor - base[name] for name, tensor in weights(trio / "student").items()}


def compared(trio: Path) -> Forecast:
    found = init_student(trio / "chat", delta=trio / "student", compare=trio / "other", dry_run=True).forecast
    assert found is not None
    return found


def test_cosine_and_ratio_are_those_of_the_deltas_as_vectors(trio: Path) -> None:
    torch.manual_seed(0)
    delta = delta_of(trio)
    save_compared(trio, {name: tensor + torch.randn_like(tensor) for name, tensor in delta.items()})
    own = kept_weights(trio / "chat")
    one = torch.cat([delta[name].double().flatten() for name in sorted(delta)])
    stored = weights(trio / "other")
    other = torch.cat([(stored[name].double() - own[name].double()).flatten() for name in sorted(delta)])
    found = compared(trio).total
    assert found.cosine == pytest.approx(float(torch.cosine_similarity(one, other, dim=0)), abs=1e-6)
    assert found.norm_ratio == pytest.approx(float(other.norm() / one.norm()), abs=1e-6)
    assert found.parameters == len(one)


def test_each_group_is_compared_by_itself(trio: Path) -> None:
    delta = delta_of(trio)
    changed = {name: -tensor if "mlp" in name else 2 * tensor for name, tensor in delta.items()}
    save_compared(trio, {**changed, "lm_head.weight": torch.zeros_like(delta["lm_head.weight"])})
    groups = compared(trio).groups
    near = pytest.approx
    assert list(groups) == ["embedding", "attention", "mlp", "norms", "head"]
    assert (groups["mlp"].cosine, groups["mlp"].norm_ratio) == (near(-1, abs=1e-5), near(1, abs=1e-5))
    assert (groups["attention"].cosine, groups["attention"].norm_ratio) == (near(1, abs=1e-5), near(2, abs=1e-5))
    assert groups["head"] == Agreement(None, 0.0, delta["lm_head.weight"].numel())


@pytest.mark.parametrize("family", ["gpt_neox", "gpt2", "opt", "qwen3", "mixtral", "deepseek_v3", "qwen3_next"])
def test_a_familys_tensors_have_a_group(family: str, tmp_path: Path) -> None:
    save_trio(tmp_path, family)
    made = init_student(tmp_path / "chat", delta=tmp_path / "student", output=tmp_path / "other")
    found = compared(tmp_path)
    assert found.total.cosine == pytest.approx(1, abs=1e-5)
    assert found.total.norm_ratio == pytest.approx(1, abs=1e-5)
    assert set(found.groups) <= set(GROUPS)
    assert {"embedding", "attention", "mlp", "norms"} <= set(found.groups)
    tied = made.plan.tied
    assert ("head" in found.groups) != tied
    assert found.total.parameters == made.parameters


@pytest.mark.parametrize(
    ("family", "name", "group"),
    [
        ("llama", "model.layers.3.self_attn.q_proj.weight", "attention"),
        ("qwen3", "model.layers.3.self_attn.q_norm.weight", "norms"),
        ("llama", "model.layers.3.post_attention_layernorm.weight", "norms"),
        ("gpt_neox", "gpt_neox.layers.0.attention.dense.weight", "attention"),
        ("gpt_neox", "embed_out.weight", "head"),
        ("gpt2", "transformer.h.0.ln_1.bias", "norms"),
        ("gpt2", "transformer.wpe.weight", "embedding"),
        ("opt", "model.decoder.layers.0.fc1.weight", "mlp"),
        ("mixtral", "model.layers.0.block_sparse_moe.gate.weight", "mlp"),
        ("llama", "model.norm.weight", "norms"),
        ("bert", "bert.pooler.dense.weight", "other"),
    ],
)
def test_a_name_tells_the_group(family: str, name: str, group: str) -> None:
    assert group_of(name, TABLE[family]) == group


def test_the_command_prints_the_groups_beside_the_published_values(trio: Path) -> None:
    save_compared(trio, delta_of(trio))
    words = ("init-student", trio / "chat", "--delta", trio / "student", "--compare", trio / "other", "--dry-run")
    told = run(*words).stderr
    assert "\nall          1.00        1.00" in told
    assert "Qwen3-4B-Instruct-2507 0.73 / 1.00" in told
    assert "Llama-3.1-8B-Instruct 0.30 / 0.95" in told
    content = json.loads(run(*words, "--json").stdout)["forecast"]
    assert content["total"]["cosine"] == pytest.approx(1, abs=1e-5)
    assert content["published"]["Qwen/Qwen3-4B-Thinking-2507"] == [0.57, 0.92]


def test_a_student_that_was_never_distilled_is_told(trio: Path) -> None:
    other = init_student(trio / "chat", keep=KEPT, output=trio / "other").path
    told = run("init-student", trio / "chat", "--delta", trio / "student", "--compare", other, "--dry-run").stderr
    assert "one of the two deltas is zero, which has no cosine: that student was never distilled" in told


def test_a_student_of_other_layers_is_not_compared(trio: Path) -> None:
    other = init_student(trio / "chat", keep=[0, 2, 4, 6, 7], output=trio / "other").path
    words = ("init-student", trio / "chat", "--delta", trio / "student", "--compare", other, "-o", trio / "made")
    assert_refused(*words, message="other keeps the layers 0,2,4,6,7, and --delta .* keeps 0,2,4,5,7")
    edit_json(other / "config.json", boomerang=None)
    edit_json(other / "student_config.json", pruned_teacher_layers=[1, 3, 5, *range(8, LAYERS + 1)])
    assert_refused(*words, message="other keeps the layers")
    assert "made" not in names(trio)
