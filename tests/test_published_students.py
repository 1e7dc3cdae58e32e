"""What is odd about the published students of arXiv 2608.22854, on headers true to them; and their table."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import pytest
from huggingface_hub import constants
from published import ADAPT, PAIRS, Published, add_to_cache, shapes, write_student, write_teacher

from boomerang_cli.engine.checkpoint import same_bytes
from boomerang_cli.engine.checkpoint.families import FAMILIES
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.output import delta_plan
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.pair import Pair, open_pair
from boomerang_cli.engine.pair.published import PUBLISHED_STUDENTS, LayerRule, published_student
from boomerang_cli.engine.patch import patch

BASE_4B, INSTRUCT_4B, BASE_14B, _, LLAMA, OLMO = ADAPT


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that is offline, with an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def cached(machine: Path, published: Published, **student: object) -> Pair:
    add_to_cache(machine / "cache", published.teacher, write_teacher(machine / "teacher", published))
    add_to_cache(machine / "cache", published.student, write_student(machine / "student", published, **student))  # type: ignore[arg-type]
    return open_pair(published.student)


def test_the_table_holds_each_published_student_once_with_its_teacher() -> None:
    pairs = [*PAIRS, *ADAPT]
    assert {pair.student: pair.teacher for pair in pairs} == {
        name: each.teacher for name, each in PUBLISHED_STUDENTS.items()
    }
    assert {name for name, each in PUBLISHED_STUDENTS.items() if each.published} == {pair.student for pair in ADAPT}


def test_an_order_that_is_not_stated_is_the_familys() -> None:
    for pair in (*PAIRS, *ADAPT):
        stated = PUBLISHED_STUDENTS[pair.student].order
        assert (stated or FAMILIES[pair.config["model_type"]].order) == pair.order
    assert PUBLISHED_STUDENTS[BASE_14B.student].order is None


def test_a_former_name_is_the_same_student() -> None:
    former = "Harvard-DCML/ADAPT-Olmo3-4.3B-Instruct"
    assert published_student(former) is published_student(OLMO.student) is PUBLISHED_STUDENTS[OLMO.student]
    assert published_student("Harvard-DCML/another") is None


def test_a_student_is_found_by_a_former_name(machine: Path) -> None:
    (former,) = PUBLISHED_STUDENTS[OLMO.student].former_names
    add_to_cache(machine / "cache", OLMO.teacher, write_teacher(machine / "teacher", OLMO))
    add_to_cache(machine / "cache", former, write_student(machine / "student", OLMO))
    assert open_pair(former).teacher.name == OLMO.teacher
    assert patch(student=former, layers=1, dry_run=True).patched_blocks == (0,)


def test_llama_of_adapt_keeps_every_second_layer_though_its_familys_rule_is_another(machine: Path) -> None:
    """Rule 1, 2, 2 and not 2, 2, 1: what the student records counts."""
    pair, family = cached(machine, LLAMA), FAMILIES["llama"]
    assert pair.layer_map.kept == (*range(0, 32, 2), 31)
    assert LayerRule(family.keep_first, 2, family.keep_last).kept(32) == (0, *range(1, 32, 2))
    assert patch(student=LLAMA.student, layers=1, dry_run=True).patched_blocks == (0,)


def test_olmo_3_keeps_its_positions_by_kind_of_attention_and_its_layers_kinds(machine: Path) -> None:
    cached(machine, OLMO)
    config = patch(student=OLMO.student, layers=2, dry_run=True).plan.config
    assert config["rope_parameters"] == OLMO.config["rope_parameters"]
    kinds = [
        "full_attention" if layer % 4 == 3 else "sliding_attention" for layer in (0, 1, 2, 3, *range(4, 32, 2), 31)
    ]
    assert config["layer_types"] == kinds


def test_parameters_are_counted_from_headers_whatever_an_index_says(machine: Path) -> None:
    """One of four processes wrote ``total_parameters`` of what it held."""
    student = write_student(machine / "student", BASE_4B)
    index = student / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    index.write_text(json.dumps({**content, "metadata": {"total_parameters": 576_853_376, "total_size": 1}}))
    add_to_cache(machine / "cache", BASE_4B.teacher, write_teacher(machine / "teacher", BASE_4B))
    add_to_cache(machine / "cache", BASE_4B.student, student)
    result = patch(student=BASE_4B.student, layers=0, dry_run=True)
    held = sum(prod(shape) for _, shape in shapes(BASE_4B.config, 19, "F32").values())
    assert result.parameters == result.student_parameters == held
    assert round(held / 1e9, 3) == 2.307


def test_a_tied_student_that_stores_its_head_too_is_tied(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10.8 GB of float32 for 2.3 billion parameters; of two matrices of holes 3 GB need not be read to be equal."""
    monkeypatch.setattr(same_bytes, "reader_of", lambda file: lambda start, stop: stop - start)
    pair = cached(machine, BASE_4B, head=True)
    stored = sum(tensor.size_bytes for tensor in pair.student.tensors.values())
    assert round(stored / 1e9, 1) == 10.8
    assert pair.parts["student"].tied
    result = patch(student=BASE_4B.student, layers=0, dry_run=True)
    assert (result.tied_embeddings, round(result.parameters / 1e9, 3)) == (True, 2.307)
    assert "lm_head.weight" not in {copy.name for copy in result.plan.copies}


@pytest.mark.parametrize("architectures", [None, ["FSDPQwen3ForCausalLM"]])
@pytest.mark.parametrize("layers", [0, 1])
def test_the_class_is_the_teachers_where_the_student_names_none(
    machine: Path, architectures: list[str] | None, layers: int
) -> None:
    cached(machine, BASE_14B, architectures=architectures)
    result = patch(student=BASE_14B.student, layers=layers, dry_run=True)
    assert result.plan.config["architectures"] == ["Qwen3ForCausalLM"]


def test_an_instruct_student_from_the_published_base_student_by_names_alone(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher's context and positions are other than the base's, and stay."""
    monkeypatch.setattr(delta_plan, "hold_the_same", lambda one, other: False)  # holes of both would be read, and equal
    cached(machine, BASE_4B)
    add_to_cache(machine / "cache", INSTRUCT_4B.teacher, write_teacher(machine / "instruct", INSTRUCT_4B))
    made = init_student(INSTRUCT_4B.teacher, delta=BASE_4B.student, dry_run=True)
    assert made.weight_delta is not None
    assert made.weight_delta.base == BASE_4B.teacher
    assert made.copied_teacher_layers == BASE_4B.layer_map.kept
    assert (made.plan.tied, made.plan.dtype) == (True, "bfloat16")
    assert made.plan.config["rope_theta"] == 5_000_000
    assert LayerMap(36, made.copied_teacher_layers) == INSTRUCT_4B.layer_map
