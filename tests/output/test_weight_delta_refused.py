"""``init-student --delta`` of what does not fit: one line that says why, and nothing left behind."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from delta_models import save_trio, save_variant, save_weights, weights
from files import edit_json, names
from running import assert_refused, run
from tiny_models import load

TRIO = ["base", "chat", "student"]


@pytest.fixture
def trio(tmp_path: Path) -> Path:
    return save_trio(tmp_path)


def spoil(folder: Path, value: float, layer: int = 1) -> None:
    name = f"model.layers.{layer}.mlp.up_proj.weight"
    tensors = weights(folder)
    tensors[name][3, 4] = value
    save_weights(folder, tensors)


@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize(("model", "layer"), [("student", 1), ("chat", 2), ("base", 2)])
def test_what_is_not_finite_is_refused_by_its_tensors_name(trio: Path, model: str, layer: int, value: float) -> None:
    spoil(trio / model, value, layer)
    words = ("init-student", trio / "chat", "--delta", trio / "student", "-o", trio / "made")
    assert_refused(*words, message=r"model.layers.1.mlp.up_proj.weight would hold values that are not finite")
    assert names(trio) == TRIO


def test_a_layer_that_is_not_kept_may_hold_anything(trio: Path) -> None:
    spoil(trio / "chat", math.nan, 1)
    run("init-student", trio / "chat", "--delta", trio / "student", "-o", trio / "made")


def test_the_delta_of_a_student_with_all_layers_is_refused(trio: Path) -> None:
    shutil.copytree(trio / "base", trio / "whole")
    record = {"copied_teacher_layers": [*range(8)], "pruned_teacher_layers": [], "teacher": str(trio / "base")}
    (trio / "whole" / "student_config.json").write_text(json.dumps(record))
    words = ("init-student", trio / "chat", "--delta", trio / "whole", "-o", trio / "made")
    assert_refused(*words, message="--delta .*whole has all layers of its base: give a student that has fewer")
    assert names(trio) == [*TRIO, "whole"]


def test_a_sum_beyond_float16_is_refused_with_the_way_out(trio: Path) -> None:
    spoil(trio / "student", 1e5)
    words = ("init-student", trio / "chat", "--delta", trio / "student", "-o", trio / "made", "--dtype", "float16")
    assert_refused(
        *words, message="up_proj.weight .* beyond float16's largest, 65504: give --dtype bfloat16 or float32"
    )
    assert names(trio) == TRIO


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "kept layers": (("--keep", "0,2"), "--keep and --delta exclude one another: the delta's student decides"),
    "a rule": (("--every", "2"), "--every and --delta exclude one another"),
    "a rule's end": (("--keep-last", "2"), "--keep-last and --delta exclude one another"),
    "random weights": (("--random-init",), "--random-init and --delta exclude one another"),
    "no number": (("--delta-scale", "nan"), "--delta-scale nan is no number to multiply a delta with"),
    "a base that is not there": (("--base", "nowhere"), "no model at nowhere"),
    "the output in its place": (("-o", "student"), "student exists"),
    "a compared one without record": (("--compare", "base"), "--compare .*base is no student: it has no "),
    "a compared one of the base": (("--compare", "student"), "was distilled from .*base, not from .*chat"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_options_that_cannot_be_are_one_line(case: str, trio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trio)
    options, message = REFUSED[case]
    assert_refused("init-student", "chat", "--delta", "student", "-o", "made", *options, message=message)
    assert names(trio) == TRIO


def test_a_student_is_not_replaced_by_what_it_makes(trio: Path) -> None:
    words = ("init-student", trio / "chat", "-o", trio / "made", "--delta")
    run(*words, trio / "student")
    assert_refused(*words, trio / "made", "--overwrite", message="made holds .*made, which the output is made from")
    assert load(trio / "made")


@pytest.mark.parametrize("options", [("--base", "base"), ("--compare", "student"), ("--delta-scale", "2")])
def test_what_belongs_to_a_delta_is_nothing_without(options: tuple[str, ...], tmp_path: Path) -> None:
    assert_refused("init-student", tmp_path, *options, message=f"{options[0]} belongs to --delta STUDENT")


WRONG: dict[str, tuple[Any, str]] = {
    "another family": (
        lambda trio: save_variant(trio / "chat", "mistral"),
        "does not fit .*chat: model_type mistral, and llama of its base",
    ),
    "another depth": (
        lambda trio: save_variant(trio / "chat", num_hidden_layers=6),
        r"does not fit .*: the teacher has 6 layers, and it keeps 0,2,4,5,7 of the 8 of its base",
    ),
    "another width": (
        lambda trio: save_variant(trio / "chat", intermediate_size=40),
        r"does not fit .*: layer 0: mlp.down_proj.weight has the shape \[32, 40\], not \[32, 48\] as in its base",
    ),
    "a resized vocabulary": (
        lambda trio: save_variant(trio / "chat", vocab_size=70),
        r"model.embed_tokens.weight has the shape \[70, 32\], not \[64, 32\] as in its base .*"
        r"\(the vocabulary was resized, 70 tokens against 64, and a delta has no rows for what was added",
    ),
    "other heads of one shape": (
        lambda trio: edit_json(trio / "chat/config.json", num_attention_heads=2, head_dim=16, num_key_value_heads=1),
        "student and .*chat do not belong together: num_attention_heads 4 and 2",
    ),
    "a student without a base": (
        lambda trio: edit_json(trio / "student" / "student_config.json", teacher=None),
        "no base: .*student records no teacher in student_config.json, .*; give with --base the teacher",
    ),
    "a recorded base that is gone": (
        lambda trio: (trio / "base").rename(trio / "moved"),
        r"no model at .*base.* \(student_config.json of .*student records the teacher, --base names another\)",
    ),
    "a folder that is no student": (
        lambda trio: (trio / "student" / "student_config.json").unlink(),
        "--delta .*student is no student: it has no student_config.json, which says which layers it kept",
    ),
    "a student of another rule": (
        lambda trio: edit_json(trio / "student" / "student_config.json", copied_teacher_layers=[0, 2, 4, 5, 6, 7],
                               pruned_teacher_layers=[1, 3]),
        "student has 5 layers, the kept layers 0,2,4,5,6,7 speak of 6",
    ),
    "a base of another shape": (
        lambda trio: (shutil.rmtree(trio / "base"), save_variant(trio / "base", intermediate_size=40)),
        "student and .*base do not belong together: intermediate_size 48 and 40",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_models_that_do_not_fit_are_one_line_and_leave_nothing(case: str, trio: Path) -> None:
    change, message = WRONG[case]
    change(trio)
    before = names(trio)
    words = ("init-student", trio / "chat", "--delta", trio / "student", "-o", trio / "made")
    assert_refused(*words, message=message)
    assert names(trio) == before


def test_kinds_of_layers_that_differ_are_refused(tmp_path: Path) -> None:
    save_trio(tmp_path, "olmo3")
    edit_json(tmp_path / "chat" / "config.json", layer_types=["sliding_attention"] * 7 + ["full_attention"])
    words = ("init-student", tmp_path / "chat", "--delta", tmp_path / "student", "-o", tmp_path / "made")
    assert_refused(*words, message="layer 0 is of the kind 'sliding_attention', and 'full_attention' in its base")
