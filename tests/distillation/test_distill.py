"""What a distillation leaves behind: a student like any other, in its teacher's own file format."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from distilling import distil, make_project
from files import edit_json, names, tensor_bytes
from tiny_models import FAMILIES, KEPT, load, save_pair, text

from boomerang_cli.engine.distillation.models import load_student
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.distillation.student import plan_student, write_student, write_weights
from boomerang_cli.engine.errors import OutputError, ProcessError
from boomerang_cli.engine.pair.pair import open_pair
from boomerang_cli.engine.pair.student_config import read_student_config
from boomerang_cli.engine.patch import patch


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Distilled once, with an evaluation, and looked at by many tests."""
    folder = make_project(tmp_path_factory.mktemp("project"))
    (folder / "teacher" / "chat_template.jinja").write_text("{{ messages }}\n")
    edit_json(folder / "teacher" / "config.json", use_cache=True, rope_theta=10000)
    distil(folder, eval_data=[str(folder / "held-out.txt")])
    return folder


def content(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_folder_holds_a_student_and_nothing_else(project: Path) -> None:
    model = ["config.json", "model.safetensors", "metrics.jsonl", "student_config.json"]
    teachers = ["chat_template.jinja", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
    assert names(project / "student") == sorted([*model, *teachers])
    assert names(project) == ["held-out.txt", "student", "student-init", "teacher", "train.txt"]


@pytest.mark.parametrize("name", ["chat_template.jinja", "generation_config.json", "tokenizer.json"])
def test_companions_are_the_teachers_byte_for_byte(project: Path, name: str) -> None:
    assert (project / "student" / name).read_bytes() == (project / "teacher" / name).read_bytes()


def test_the_config_is_the_teachers_but_for_its_layers(project: Path) -> None:
    teachers = content(project / "teacher" / "config.json")
    part = {"pruned_teacher_layers": [1, 3, 6], "copied_teacher_layers": [0, 2, 4, 5, 7]}
    changed = {"num_hidden_layers": len(KEPT), "boomerang": part}
    assert content(project / "student" / "config.json") == {**teachers, **changed}


def test_tensors_have_the_undistilled_students_names_shapes_and_dtypes(project: Path) -> None:
    before, after = tensor_bytes(project / "student-init"), tensor_bytes(project / "student")
    assert {name: tensor[:2] for name, tensor in after.items()} == {name: tensor[:2] for name, tensor in before.items()}


def test_training_has_changed_every_tensor(project: Path) -> None:
    before, after = tensor_bytes(project / "student-init"), tensor_bytes(project / "student")
    assert [name for name in after if after[name] == before[name]] == []


def test_the_student_is_nearer_to_its_teacher_than_before(project: Path) -> None:
    teacher, before, after = (load(project / name) for name in ("teacher", "student-init", "student"))
    with torch.no_grad():
        wanted = teacher(text()).logits
        distances = [(model(text()).logits - wanted).square().mean() for model in (before, after)]
    assert distances[1] < distances[0]


def test_student_config_records_layers_teacher_recipe_losses_and_versions(project: Path) -> None:
    recorded = read_student_config(project / "student")
    assert (recorded.layer_map.kept, recorded.teacher) == (KEPT, str(project / "teacher"))
    made = recorded.distillation
    assert made["recipe"]["learning_rate"] == 1e-2
    assert made["recipe"].keys() == asdict(Recipe()).keys()
    assert made["losses"].keys() == {"total", "cross_entropy", "kl", "cosine"}
    assert made["evaluation"].keys() == {"loss", "perplexity"}
    assert made["tokens"] == 6 * 4 * 16
    assert {"boomerang", "torch", "transformers"} <= made["versions"].keys()


def test_metrics_hold_a_line_for_each_step_and_evaluation(project: Path) -> None:
    records = [json.loads(line) for line in (project / "student" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "loss" in record] == [1, 2, 3, 4, 5, 6]
    assert [record["step"] for record in records if "eval_loss" in record] == [0, 1, 2, 3, 4, 5, 6]


def test_patching_takes_the_student_and_finds_its_teacher(project: Path, tmp_path: Path) -> None:
    result = patch(student=project / "student", layers=3, output=tmp_path / "whole")
    assert result.depth == 8
    assert tensor_bytes(tmp_path / "whole") == tensor_bytes(project / "teacher")


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_written_under_the_familys_names_on_disk(tmp_path: Path, family: str) -> None:
    student = save_pair(tmp_path, family)[1]
    pair = open_pair(student)
    plan = plan_student(pair)
    write_weights(load_student(pair, torch.device("cpu")), plan, tmp_path / "scratch")
    write_student(plan, tmp_path / "out", tmp_path / "scratch", overwrite=False)
    assert tensor_bytes(tmp_path / "out") == tensor_bytes(student)
    load(tmp_path / "out")
    assert names(tmp_path) == ["out", "student", "teacher"]


def test_a_tied_student_is_trained_and_stays_tied(tmp_path: Path) -> None:
    folder = make_project(tmp_path, "qwen3")
    distil(folder, steps=1)
    assert "lm_head.weight" not in tensor_bytes(folder / "student")
    assert content(folder / "student" / "config.json")["tie_word_embeddings"] is True


def test_dtype_is_chosen(tmp_path: Path) -> None:
    folder = make_project(tmp_path)
    distil(folder, steps=1, dtype="bfloat16")
    assert {dtype for dtype, _, _ in tensor_bytes(folder / "student").values()} == {"BF16"}
    assert content(folder / "student" / "config.json")["dtype"] == "bfloat16"


def test_a_dry_run_plans_the_files_that_are_written(project: Path) -> None:
    planned = distil(project, dry_run=True).plan
    files = {shard.file for shard in planned.shards} | {file.name for file in planned.companions}
    assert sorted({*files, *planned.documents, "config.json"}) == names(project / "student")
    assert planned.size_bytes == sum(len(data) for *_, data in tensor_bytes(project / "student").values())


def test_a_full_disk_at_the_end_keeps_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_project(tmp_path)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("boomerang_cli.engine.distillation.student.write_tensors", full)
        with pytest.raises(OutputError, match=r"No space left.*go on with --resume"):
            distil(folder, steps=2)
    assert names(folder / "student.training") == ["checkpoint-2"]
    assert distil(folder, steps=2, resume=True).steps == 2
    assert not (folder / "student.training").exists()


def test_gpus_without_a_plan_are_refused_where_one_process_would_train(project: Path) -> None:
    with pytest.raises(ProcessError, match="gpus 2 is for a plan, with dry_run"):
        distil(project, gpus=2)
