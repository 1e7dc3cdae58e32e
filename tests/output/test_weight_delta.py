"""``init-student --delta``: a post-trained teacher's student by adding what distilling made of its base's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from delta_models import kept_weights, recast, record, save_trio, save_weights, weights
from files import edit_json, names, tensor_bytes
from running import run
from tiny_models import FAMILIES, KEPT, load, text

from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.init_student import InitStudentResult, init_student
from boomerang_cli.engine.output.verify import Verification, verify_model
from boomerang_cli.engine.patch import patch

TRIO = ["base", "chat", "student"]


@pytest.fixture
def trio(tmp_path: Path) -> Path:
    return save_trio(tmp_path)


def added(folder: Path, **options: Any) -> InitStudentResult:
    given = {"delta": folder / "student", "output": folder / "made", "verify": True, **options}
    return init_student(folder / "chat", **given)


def expected(folder: Path, scale: float = 1.0) -> dict[str, torch.Tensor]:
    """The formula, as one would write it with torch."""
    own, changed, base = kept_weights(folder / "chat"), weights(folder / "student"), kept_weights(folder / "base")
    return {name: own[name].float() + scale * (changed[name].float() - base[name].float()) for name in own}


# The sum


@pytest.mark.parametrize("scale", [1.0, 0.3, -2.0])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_sum_is_torchs_in_float32_rounded_once(tmp_path: Path, dtype: str, scale: float) -> None:
    save_trio(tmp_path, dtype=dtype)
    made, whole = weights(added(tmp_path, delta_scale=scale).path), expected(tmp_path, scale)
    assert made.keys() == whole.keys()
    assert all(torch.equal(made[name], whole[name].to(getattr(torch, dtype))) for name in whole)


def test_models_of_three_dtypes_make_one_of_the_teachers(trio: Path) -> None:
    recast(trio / "base", "bfloat16")
    recast(trio / "chat", "float16")
    made, whole = weights(added(trio).path), expected(trio)
    assert all(torch.equal(made[name], whole[name].half()) for name in whole)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_sum_is_rounded_to_the_dtype_that_is_asked_for(trio: Path, dtype: str) -> None:
    made, whole = weights(added(trio, dtype=dtype).path), expected(trio)
    assert all(torch.equal(made[name], whole[name].to(getattr(torch, dtype))) for name in whole)


def test_pieces_do_not_show(trio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tensor_bytes(added(trio).path)
    monkeypatch.setattr("boomerang_cli.engine.output.moves._COMPUTE_VALUES", 100)
    monkeypatch.setattr("boomerang_cli.engine.output.moves._BLOCK_VALUES", 7)
    assert tensor_bytes(added(trio, output=trio / "again", max_shard_size="20KB").path) == whole


def test_scale_0_is_the_undistilled_student_byte_for_byte(trio: Path) -> None:
    plain = init_student(trio / "chat", keep=KEPT, output=trio / "plain").path
    nothing = added(trio, delta_scale=0.0).path
    for name in ("model.safetensors", "config.json"):
        assert (nothing / name).read_bytes() == (plain / name).read_bytes()


@pytest.mark.parametrize("copied", [False, True])
def test_a_delta_on_its_own_base_is_the_student_byte_for_byte(trio: Path, copied: bool) -> None:
    if copied:
        shutil.copytree(trio / "base", trio / "elsewhere")
    made = init_student(trio / ("elsewhere" if copied else "base"), delta=trio / "student", output=trio / "made")
    assert tensor_bytes(made.path) == tensor_bytes(trio / "student")
    assert not any(copy.added for copy in made.plan.copies)


def test_a_tensor_that_post_training_left_alone_is_the_students(trio: Path) -> None:
    """``a + (b - a)`` is not always b: here it would be 0."""
    name = "model.norm.weight"
    for folder, value in (("base", 1e9), ("chat", 1e9), ("student", 1.5)):
        save_weights(
            trio / folder, {**weights(trio / folder), name: torch.full_like(weights(trio / folder)[name], value)}
        )
    assert weights(added(trio).path)[name].tolist() == [1.5] * 32


def test_half_a_delta_on_its_own_base_is_half_way_to_the_student(trio: Path) -> None:
    made = weights(init_student(trio / "base", delta=trio / "student", delta_scale=0.5, output=trio / "made").path)
    own, changed = kept_weights(trio / "base"), weights(trio / "student")
    assert all(torch.equal(made[name], own[name] + 0.5 * (changed[name] - own[name])) for name in own)


def test_tensors_that_are_copied_from_the_student_are_told(trio: Path) -> None:
    words = ("--delta", trio / "student", "-o", trio / "made", "--dry-run")
    whole = f"teacher and base hold the same: the output is a copy of {trio / 'student'}"
    assert whole in run("init-student", trio / "base", *words).stderr
    name = "model.norm.weight"
    save_weights(trio / "chat", {**weights(trio / "chat"), name: weights(trio / "base")[name]})
    said = run("init-student", trio / "chat", *words).stderr
    assert "1 of 48 tensors are alike in teacher and base: they are the student's" in said
    assert "is a copy of" not in said


@pytest.mark.parametrize("family", FAMILIES)
def test_every_familys_delta_opens_and_patches_back_to_its_teacher(family: str, tmp_path: Path) -> None:
    save_trio(tmp_path, family)
    student = added(tmp_path).path
    assert load(student)(text()).logits.isfinite().all()
    whole = patch(layers=3, student=student, output=tmp_path / "whole").path
    assert whole is not None
    assert tensor_bytes(whole) == tensor_bytes(tmp_path / "chat")


# Ties


@pytest.mark.parametrize("model", TRIO)
def test_where_one_of_three_is_untied_the_student_has_a_head_of_its_own(model: str, tmp_path: Path) -> None:
    save_trio(tmp_path, "qwen3")
    embedding = weights(tmp_path / model)["model.embed_tokens.weight"]
    save_weights(tmp_path / model, {**weights(tmp_path / model), "lm_head.weight": embedding * 2})
    edit_json(tmp_path / model / "config.json", tie_word_embeddings=False)
    made = added(tmp_path).path
    heads = {name: each.get("lm_head.weight", each["model.embed_tokens.weight"]) for name in TRIO
             for each in [weights(tmp_path / name)]}  # fmt: skip
    assert torch.equal(weights(made)["lm_head.weight"], heads["chat"] + (heads["student"] - heads["base"]))
    assert load(made).config.tie_word_embeddings is False


def test_scale_0_leaves_a_tied_teacher_tied_whatever_the_student_is(tmp_path: Path) -> None:
    save_trio(tmp_path, "qwen3")
    embedding = weights(tmp_path / "student")["model.embed_tokens.weight"]
    save_weights(tmp_path / "student", {**weights(tmp_path / "student"), "lm_head.weight": embedding * 2})
    edit_json(tmp_path / "student" / "config.json", tie_word_embeddings=False)
    made = added(tmp_path, delta_scale=0.0)
    assert made.plan.tied
    assert weights(made.path).keys() == kept_weights(tmp_path / "chat").keys()


def test_three_tied_models_make_a_tied_one_whatever_copies_of_the_head_they_hold(tmp_path: Path) -> None:
    save_trio(tmp_path, "qwen3")
    plain = tensor_bytes(added(tmp_path).path)
    student = weights(tmp_path / "student")
    save_weights(tmp_path / "student", {**student, "lm_head.weight": student["model.embed_tokens.weight"].clone()})
    made = added(tmp_path, output=tmp_path / "again")
    assert made.plan.tied
    assert tensor_bytes(made.path) == plain
    assert "lm_head.weight" not in plain


def test_sources_without_the_bodys_prefix_are_matched_by_their_parts(trio: Path) -> None:
    plain = tensor_bytes(added(trio).path)
    bare = {name.removeprefix("model."): tensor for name, tensor in weights(trio / "student").items()}
    save_weights(trio / "student", bare)
    assert tensor_bytes(added(trio, output=trio / "again").path) == plain


# What is recorded


def test_three_sources_and_the_scale_are_recorded_and_told(trio: Path) -> None:
    edit_json(trio / "student" / "student_config.json", order="first")
    made = added(trio, delta_scale=0.5).path
    told = record(made)
    assert told["weight_delta"] == {"student": str(trio / "student"), "base": str(trio / "base"), "scale": 0.5}
    assert (told["teacher"], told["copied_teacher_layers"], told["order"]) == (str(trio / "chat"), list(KEPT), "first")
    how = json.loads((made / "boomerang.json").read_text())
    assert [how[role]["name"] for role in ("teacher", "delta_student", "base")] == [
        str(trio / name) for name in ("chat", "student", "base")
    ]
    assert how["delta_scale"] == 0.5
    card = (made / "README.md").read_text()
    assert "0.5 · (the distilled student's - its base's)" in card
    assert str(trio) not in card


def test_the_folder_holds_a_finished_student_by_its_default_name(trio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trio)
    (trio / "student").rename("base-student")
    told = run("init-student", "chat", "--delta", "base-student")
    assert told.stdout == "student\n"
    assert "hint: make a size between it and its teacher: `boomerang patch --layers 2`" in told.stderr
    own = {"config.json", "model.safetensors", "student_config.json", "boomerang.json", "README.md"}
    assert {*names(trio / "student")} == own | {*names(trio / "chat")}
    run("patch", "--layers", "2", "--quiet")
    assert json.loads((trio / "student" / ".boomerang").read_text())["kind"] == "student"


def test_a_student_in_another_place_is_named_in_the_hint(trio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trio)
    told = run("init-student", "chat", "--delta", "student", "-o", "made").stderr
    assert "`boomerang patch --layers 2 --student made`" in told


def test_a_base_that_is_named_goes_before_the_recorded_one(trio: Path) -> None:
    edit_json(trio / "student" / "student_config.json", teacher="/nowhere")
    told: list[str] = []
    made = added(trio, base=trio / "base", on_note=told.append)
    assert made.weight_delta is not None
    assert made.weight_delta.base == str(trio / "base")
    assert "student records that it was distilled from /nowhere: the delta is wrong unless" in told[0]


def test_a_base_that_is_the_recorded_one_needs_no_word(trio: Path) -> None:
    told: list[str] = []
    added(trio, base=trio / "base", on_note=told.append)
    assert told == []


def test_the_variable_of_the_teacher_names_no_base(trio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOMERANG_TEACHER", str(trio / "chat"))
    made = added(trio)
    assert made.weight_delta is not None
    assert made.weight_delta.base == str(trio / "base")


def test_a_dry_run_plans_the_same_and_writes_nothing(trio: Path) -> None:
    planned = added(trio, dry_run=True)
    assert names(trio) == TRIO
    assert planned.plan.shards == added(trio).plan.shards


# Verify


def test_a_wrong_byte_of_a_sum_is_found(trio: Path) -> None:
    result = added(trio)
    assert result.verified == Verification(len(result.plan.copies), result.bytes, 0)
    path = result.path / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(OutputError, match=r"does not hold .* as the sum of .*chat.*, .*student.*, .*base.* has it"):
        verify_model(result.plan, result.path)


def test_a_sum_loads_no_torch(trio: Path) -> None:
    words = ["init-student", str(trio / "chat"), "--delta", str(trio / "student"), "-o", str(trio / "made"), "-q"]
    code = (
        f"import sys\nfrom boomerang_cli.cli.app import app\ntry: app({words!r})\n"
        "except SystemExit as e: assert not e.code\n"
        "sys.exit(bool({'torch', 'transformers', 'huggingface_hub'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
