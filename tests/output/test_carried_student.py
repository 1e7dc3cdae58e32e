"""A size that another tool trained on and saved anew: ``config.json`` carries the layers that its own stand for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from files import edit_json, names
from running import assert_refused, run
from safetensors.torch import load_file
from tiny_models import KEPT, LAYERS, load, save_pair

from boomerang_cli.engine.errors import PairError
from boomerang_cli.engine.info import info
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.models.intermediate import build_intermediate_model
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.student_config import StudentConfig, is_student, read_student_config
from boomerang_cli.engine.patch import patch

SIZED = LayerMap(LAYERS, (*KEPT[:3], 5, 6, 7))
"""The student with its last block patched; blocks 0 and 1 are left."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, its student, a size, and what a trainer outside made of that."""
    folder = tmp_path_factory.mktemp("made")
    save_pair(folder, "llama")
    patch(layers=1, order="last", student=folder / "student", output=folder / "sized")
    train_elsewhere(folder / "sized", folder / "healed")
    return folder


def train_elsewhere(source: Path, target: Path) -> None:
    """Change all weights, and leave the files that transformers saves."""
    model = load(source)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.manual_seed(0)), alpha=0.1)
    model.save_pretrained(target)


def files_of(folder: Path) -> tuple[dict[str, bytes], Any]:
    tensors = {name: tensor.numpy().tobytes() for name, tensor in load_file(folder / "model.safetensors").items()}
    return tensors, json.loads((folder / "config.json").read_text())


def test_it_is_patched_on_as_by_keep(made: Path, tmp_path: Path) -> None:
    assert names(made / "healed") == ["config.json", "generation_config.json", "model.safetensors"]
    plain = shutil.copytree(made / "healed", tmp_path / "plain")
    edit_json(plain / "config.json", boomerang=None)
    both = {"layers": 1, "order": "last", "teacher": made / "teacher"}
    patch(student=made / "healed", output=tmp_path / "carried", **both)
    patch(student=plain, keep=SIZED.kept, output=tmp_path / "kept", **both)
    assert files_of(tmp_path / "carried") == files_of(tmp_path / "kept")


def test_the_order_that_remains_is_carried(made: Path) -> None:
    recorded = read_student_config(made / "healed")
    assert (recorded.layer_map, recorded.order) == (SIZED, "last")  # the family's is first


def test_no_path_of_this_disk_is_carried(made: Path) -> None:
    assert str(made) not in (made / "sized" / "config.json").read_text()
    assert_refused("patch", "--layers", 1, "--student", made / "healed", message="no teacher: .*; give --teacher$")


def test_a_teacher_on_the_hub_is_carried() -> None:
    part = StudentConfig(SIZED, teacher="lab/teacher", teacher_revision="a" * 40).in_config()["boomerang"]
    assert (part["teacher"], part["teacher_revision"]) == ("lab/teacher", "a" * 40)


def test_nobody_says_that_it_was_never_distilled(made: Path, tmp_path: Path) -> None:
    given = ("--teacher", made / "teacher", "--output", tmp_path / "on")
    assert "never distilled" not in run("patch", "--student", made / "healed", "--layers", 1, *given).stderr
    assert "never distilled" not in run("patch", "--student", tmp_path / "on", "--layers", 0, "--dry-run").stderr
    assert info(made / "healed").kind == "student"


def test_the_folder_itself_is_a_student_where_one_works_in_it(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made / "healed")
    assert run("patch", "--layers", 1, "--teacher", "../teacher", "--dry-run", "--json").exit_code == 0


def test_a_record_of_another_model_beside_it_is_refused(made: Path, tmp_path: Path) -> None:
    healed = shutil.copytree(made / "healed", tmp_path / "healed")
    shutil.copy(made / "student" / "student_config.json", healed)
    with pytest.raises(PairError, match=r"0,2,4,5,7 of 8, and `boomerang` in config.json 0,2,4,5,6,7 of 8: one of"):
        patch(layers=1, student=healed, teacher=made / "teacher", output=tmp_path / "out")
    assert names(tmp_path) == ["healed"]


@pytest.mark.parametrize("part", [{}, {"copied_teacher_layers": [0, "2"], "pruned_teacher_layers": [1]}])
def test_a_part_that_names_no_layers_is_refused(made: Path, tmp_path: Path, part: Any) -> None:
    healed = shutil.copytree(made / "healed", tmp_path / "healed")
    edit_json(healed / "config.json", boomerang=part)
    with pytest.raises(PairError, match=r"config.json, boomerang: copied_teacher_layers must be a list of layer"):
        patch(layers=1, student=healed, teacher=made / "teacher", output=tmp_path / "out")


def test_a_model_of_all_layers_has_the_teachers_configuration(made: Path, tmp_path: Path) -> None:
    patch(layers=3, student=made / "student", output=tmp_path / "whole")
    whole, teacher = (json.loads((each / "config.json").read_text()) for each in (tmp_path / "whole", made / "teacher"))
    assert whole == teacher | {"tie_word_embeddings": False}


def test_a_student_of_a_size_does_not_carry_that_sizes_layers(made: Path, tmp_path: Path) -> None:
    init_student(made / "healed", keep=[0, 2, 5], output=tmp_path / "small")
    assert read_student_config(tmp_path / "small").layer_map == LayerMap(6, (0, 2, 5))
    patch(layers=2, student=tmp_path / "small", output=tmp_path / "whole")  # the healed size, as a teacher
    assert "boomerang" not in json.loads((tmp_path / "whole" / "config.json").read_text())


def test_a_model_that_was_built_in_memory_carries_them_too(made: Path, tmp_path: Path) -> None:
    build_intermediate_model(made / "teacher", made / "student", 1, False).save_pretrained(tmp_path)
    assert is_student(tmp_path)
    assert read_student_config(tmp_path).layer_map == SIZED
