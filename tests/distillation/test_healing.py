"""A size is healed: a patched model is distilled for a few steps more, and stays a student of its teacher."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from distilling import SETTINGS, distil, make_project
from safetensors.torch import load_file
from tiny_models import KEPT, LAYERS, load

from boomerang_cli.engine.distill import distill
from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.student_config import read_student_config
from boomerang_cli.engine.patch import patch


@pytest.fixture(scope="module")
def healed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose student has its last block patched, and is distilled again."""
    folder = make_project(tmp_path_factory.mktemp("project"), "llama")
    distil(folder, steps=2)
    patch(layers=1, order="last", student=folder / "student", output=folder / "patched")
    data = [str(folder / "train.txt")]
    distill(folder / "patched", data=data, output=folder / "healed", **{**SETTINGS, "steps": 3})
    return folder


def test_a_healed_size_is_a_student_of_its_own_layers(healed: Path) -> None:
    recorded = read_student_config(healed / "healed")
    assert recorded.layer_map == LayerMap(LAYERS, (*KEPT[:4], 6, 7))
    assert recorded.order == "last"
    assert load(healed / "healed").config.num_hidden_layers == 6


def test_both_trainings_are_recorded(healed: Path) -> None:
    distillation = json.loads((healed / "healed" / "student_config.json").read_text())["distillation"]
    assert (distillation["recipe"]["steps"], distillation["before"]["recipe"]["steps"]) == (3, 2)


def test_what_was_healed_stays_in_the_sizes_above(healed: Path) -> None:
    patch(layers=1, student=healed / "healed", output=healed / "larger")
    larger, trained = (load_file(healed / name / "model.safetensors") for name in ("larger", "healed"))
    layer = "model.layers.0.mlp.down_proj.weight"  # patched from the end: the first layer is the student's
    assert larger[layer].equal(trained[layer])
    assert not larger[layer].equal(load_file(healed / "patched" / "model.safetensors")[layer])


@pytest.mark.parametrize(
    ("begun_with", "output"),
    [
        ("student-init", "student"),
        ("student", "student-trained"),
        ("patched", "patched-trained"),
        ("saved", "saved-trained"),
    ],
)
def test_what_is_trained_on_takes_no_other_students_place(healed: Path, begun_with: str, output: str) -> None:
    if begun_with == "saved" and not (healed / "saved").exists():  # by another tool
        load(healed / "healed").save_pretrained(healed / "saved")
    planned = distill(
        healed / begun_with, teacher=healed / "teacher", data=[str(healed / "train.txt")], dry_run=True, **SETTINGS
    )
    assert planned.path == Path(output)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_student_does_not_take_the_place_of_the_one_it_is_made_from(healed: Path, dry_run: bool) -> None:
    options = {"teacher": healed / "teacher", "data": [str(healed / "train.txt")], **SETTINGS}
    with pytest.raises(OutputError, match="which the output is made from: give another --output"):
        distill(healed / "healed", output=healed / "healed", overwrite=True, dry_run=dry_run, **options)
