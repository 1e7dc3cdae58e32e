"""``init-student`` of teachers whose layers differ in kind, on tiny real models: what is kept, said, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from files import names, tensor_bytes
from running import assert_refused, run
from tiny_models import load, make_config, make_model, make_tokenizer, text

from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.pair.layer_mix import LayerKind
from boomerang_cli.engine.patch import patch

# Twelve layers with the schedule of the published models, and what a student of every second layer keeps of it.
HYBRIDS: dict[str, tuple[dict[str, Any], dict[str, tuple[int, int]]]] = {
    "gemma3_text": ({"sliding_window_pattern": 6}, {"sliding_attention": (10, 6), "full_attention": (2, 1)}),
    "gemma2": ({}, {"sliding_attention": (6, 4), "full_attention": (6, 3)}),
    "gpt_oss": ({}, {"sliding_attention": (6, 4), "full_attention": (6, 3)}),
    "qwen3_next": ({"mlp_only_layers": []}, {"linear_attention": (9, 5), "full_attention": (3, 2)}),
    "smollm3": (
        {"no_rope_layer_interval": 4, "use_sliding_window": False},
        {"no_rope_layers=1": (9, 5), "no_rope_layers=0": (3, 2)},
    ),
}


def save_teacher(folder: Path, family: str, **changes: Any) -> Path:
    """Write a teacher of twelve layers whose schedule its class derives; ``layer_types`` stands in its config.json."""
    config = make_config(family, num_hidden_layers=12, **{"layer_types": None, **HYBRIDS[family][0], **changes})
    make_model(config, 1).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", HYBRIDS)
def test_the_default_student_of_a_hybrid_keeps_the_mix(family: str, tmp_path: Path) -> None:
    result = init_student(save_teacher(tmp_path / "teacher", family), output=tmp_path / "student")
    kept = {kind.name: (kind.teacher_layers, kind.student_layers) for kind in result.layer_kinds}
    assert kept == HYBRIDS[family][1]
    assert result.student_layers == 7
    assert max(len(block) for block in _blocks(result.copied_teacher_layers)) <= 3


def _blocks(kept: tuple[int, ...]) -> list[range]:
    return [range(start, stop) for start, stop in zip(kept, (*kept[1:], 12), strict=True)]


@pytest.mark.parametrize("family", HYBRIDS)
def test_the_default_student_of_a_hybrid_generates_with_a_cache_as_with_full_passes(
    family: str, tmp_path: Path
) -> None:
    model = load(init_student(save_teacher(tmp_path / "teacher", family), output=tmp_path / "student").path)
    assert torch.equal(_generated(model, True), _generated(model, False))


@pytest.mark.parametrize("family", ["gemma3_text", "qwen3_next"])
def test_the_kept_layers_are_the_teachers_own(family: str, tmp_path: Path) -> None:
    """Against the teacher with its dropped layers taken out by hand."""
    teacher = save_teacher(tmp_path / "teacher", family)
    result = init_student(teacher, output=tmp_path / "student")
    whole, student = load(teacher), load(result.path)
    for index, kept in enumerate(result.copied_teacher_layers):
        own, copied = whole.model.layers[kept].state_dict(), student.model.layers[index].state_dict()
        assert all(torch.equal(own[name], copied[name]) for name in own | copied)
        assert student.config.layer_types[index] == whole.config.layer_types[kept]


@pytest.mark.parametrize("family", HYBRIDS)
def test_every_size_between_a_hybrid_and_its_student_runs_and_the_last_is_the_teacher(
    family: str, tmp_path: Path
) -> None:
    teacher = save_teacher(tmp_path / "teacher", family)
    result = init_student(teacher, output=tmp_path / "student")
    for layers in range(result.patchable_blocks + 1):
        made = load(patch(layers=layers, student=result.path, output=tmp_path / f"{layers}").path)
        assert torch.equal(_generated(made, True), _generated(made, False))
    assert tensor_bytes(tmp_path / f"{result.patchable_blocks}") == tensor_bytes(teacher)


def _generated(model: Any, use_cache: bool) -> torch.Tensor:
    options = {"max_new_tokens": 8, "do_sample": False, "use_cache": use_cache, "eos_token_id": None}
    with torch.no_grad():
        generated: torch.Tensor = model.generate(text(), **options)
    assert generated.shape == (2, 20)
    return generated


def test_what_is_kept_of_each_kind_is_said_and_shown_by_a_dry_run_too(tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path / "teacher", "gemma3_text")
    planned = run("init-student", teacher, "-o", tmp_path / "student", "--json", "--dry-run")
    assert not (tmp_path / "student").exists()
    written = run("init-student", teacher, "-o", tmp_path / "student", "--json")
    mix = [
        {"name": "sliding_attention", "teacher_layers": 10, "student_layers": 6},
        {"name": "full_attention", "teacher_layers": 2, "student_layers": 1},
    ]
    for result in (planned, written):
        assert "\nkinds of layers kept: 6 of 10 sliding_attention, 1 of 2 full_attention\n" in result.stderr
        assert "warning: none of" not in result.stderr
        assert json.loads(result.stdout)["layer_kinds"] == mix
    kept = [json.loads(result.stdout)["copied_teacher_layers"] for result in (planned, written)]
    assert kept[0] == kept[1]


def test_kept_layers_that_lose_a_kind_are_warned_of(tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path / "teacher", "gemma3_text")
    result = run("init-student", teacher, "-o", tmp_path / "student", "--keep", "0,2,4,6,8,10", "--json")
    assert "\nwarning: none of the teacher's 2 full_attention layers is kept: give one in --keep\n" in result.stderr
    lost = {"name": "full_attention", "teacher_layers": 2, "student_layers": 0}
    assert lost in json.loads(result.stdout)["layer_kinds"]
    assert load(tmp_path / "student").config.num_hidden_layers == 6


def test_a_teacher_of_one_kind_hears_nothing_of_kinds(tmp_path: Path) -> None:
    make_model(make_config("llama"), 1).save_pretrained(tmp_path / "teacher")
    result = run("init-student", tmp_path / "teacher", "-o", tmp_path / "student", "--json")
    assert "kinds of layers" not in result.stderr
    assert json.loads(result.stdout)["layer_kinds"] == []


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_linear_attention_alone_is_refused(options: tuple[str, ...], tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path / "teacher", "qwen3_next")
    asked = ("init-student", teacher, "-o", tmp_path / "student", "--keep", "0,1,2,4,5,6", *options)
    assert_refused(
        *asked,
        message="kept layers 0,1,2,4,5,6 hold no full_attention layer, without which transformers cannot generate: "
        "give one of 3,7,11 in --keep",
    )
    assert names(tmp_path) == ["teacher"]


def test_transformers_cannot_generate_with_linear_attention_alone() -> None:
    """The reason for refusing it; once this fails, the refusal can go."""
    model = make_model(make_config("qwen3_next", layer_types=["linear_attention"] * 8), 1)
    with pytest.raises(ValueError, match="can only be called on Attention layers"):
        model.generate(text(), max_new_tokens=2, do_sample=False)


def test_attention_alone_is_warned_of_but_runs(tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path / "teacher", "qwen3_next", layer_types=["full_attention", "linear_attention"] * 6)
    result = init_student(teacher, output=tmp_path / "student", keep=[0, 2, 4])
    assert result.layer_kinds == (LayerKind("full_attention", 6, 3), LayerKind("linear_attention", 6, 0))
    assert load(result.path).generate(text(), max_new_tokens=2, do_sample=False).shape[0] == 2
