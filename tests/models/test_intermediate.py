"""``build_intermediate_model``: the model that ``patch`` writes, in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_models import FAMILIES, load, save_pair, text

import boomerang_cli
from boomerang_cli import build_intermediate_model
from boomerang_cli.engine.errors import SelectionError
from boomerang_cli.engine.patch import patch


@pytest.mark.parametrize("family", FAMILIES)
def test_model_in_memory_is_the_one_that_patch_writes(family: str, tmp_path: Path) -> None:
    teacher, student = save_pair(tmp_path, family)
    model = build_intermediate_model(teacher, student, 2, False).eval()
    patch(layers=2, order="last", student=student, output=tmp_path / "model")
    written = load(tmp_path / "model").state_dict()
    assert model.state_dict().keys() == written.keys()
    assert all(torch.equal(tensor, written[name]) for name, tensor in model.state_dict().items())


def test_saving_it_and_opening_it_again_gives_the_same_logits(tmp_path: Path) -> None:
    teacher, student = save_pair(tmp_path, "qwen3")  # tied, and untied by patching
    model = build_intermediate_model(teacher, student, 1).eval()
    model.set_attn_implementation("eager")  # as in load()
    model.save_pretrained(tmp_path / "saved")
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "saved")(text()).logits, model(text()).logits)


@pytest.mark.parametrize(("first", "block"), [(True, 0), (False, 3)])
def test_blocks_are_patched_from_the_end_that_was_asked_for(tmp_path: Path, first: bool, block: int) -> None:
    teacher, student = save_pair(tmp_path, "gpt_neox")
    model = build_intermediate_model(teacher, student, 1, first)
    patch(blocks=[block], student=student, output=tmp_path / "model")
    expected = load(tmp_path / "model")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


def test_dtype_is_a_torch_dtype_or_its_name(tmp_path: Path) -> None:
    teacher, student = save_pair(tmp_path, "gpt_neox")
    assert build_intermediate_model(teacher, student, 1, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert build_intermediate_model(teacher, student, 1, dtype="float16").dtype == torch.float16


def test_generation_settings_are_the_teachers(tmp_path: Path) -> None:
    teacher, student = save_pair(tmp_path, "gpt_neox")
    (teacher / "generation_config.json").write_text('{"eos_token_id": 7, "max_new_tokens": 5}')
    assert build_intermediate_model(teacher, student, 1).generation_config.eos_token_id == 7


def test_k_out_of_range_is_refused(tmp_path: Path) -> None:
    teacher, student = save_pair(tmp_path, "gpt_neox")
    with pytest.raises(SelectionError, match="give 0 to 3"):
        build_intermediate_model(teacher, student, 4)


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, boomerang_cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        boomerang_cli.nothing  # noqa: B018
