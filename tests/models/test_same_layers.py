"""A family that is known wrongly is found when the plan is held against what transformers builds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from family_proof import save_teacher
from files import names
from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

from boomerang_cli.engine.checkpoint.families import FAMILIES
from boomerang_cli.engine.distill import distill
from boomerang_cli.engine.errors import UnsupportedModelError
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.models.intermediate import build_intermediate_model
from boomerang_cli.engine.patch import patch
from boomerang_cli.engine.sweep import sweep

WRONG: dict[str, tuple[dict[str, Any], tuple[str, ...], tuple[int, ...], str]] = {
    "gemma3_text": ({"layer_lists": ()}, ("layer_types",), (0, 2, 4, 5, 7), "layer 5 is another as layer 3"),
    "gemma4_text": ({"ends_in": None}, (), (0, 1, 3, 4), "layers 0,1,3,4: Layer type"),
    "minicpm3": ({"depth_scaled": ()}, (), (0, 1, 3, 6), "layer 0 is another as layer 0: .*scale"),
}
"""What is wrong in the row, what config.json leaves to the class, the kept layers, and what is found."""


@pytest.fixture(params=WRONG)
def wrong_pair(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """A student of a family whose row is wrong, and what is to be said of its models."""
    wrong, absent, kept, message = WRONG[request.param]
    monkeypatch.setitem(FAMILIES, request.param, replace(FAMILIES[request.param], **wrong))
    save_teacher(request.param, tmp_path / "teacher", absent=absent)
    init_student(tmp_path / "teacher", output=tmp_path / "student", keep=kept)
    return tmp_path / "student", f"a model of its layers 0,.* would not be what they are: .*({message})"


def test_patch_verifies_layers_before_it_writes(wrong_pair: tuple[Path, str], tmp_path: Path) -> None:
    student, message = wrong_pair
    patch(layers=0, student=student, output=tmp_path / "unverified")
    with pytest.raises(UnsupportedModelError, match=message):
        patch(layers=0, student=student, output=tmp_path / "model", verify=True)
    assert names(tmp_path) == ["student", "teacher", "unverified"]


def test_a_sweep_verifies_each_size_before_it_reads_text(wrong_pair: tuple[Path, str], tmp_path: Path) -> None:
    student, message = wrong_pair
    with pytest.raises(UnsupportedModelError, match=message):
        sweep(layers=[0], student=student, data=["nowhere"], output=tmp_path / "sweep")
    assert names(tmp_path) == ["student", "teacher"]


def test_distill_verifies_the_student(wrong_pair: tuple[Path, str], tmp_path: Path) -> None:
    student, message = wrong_pair
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time")
    with pytest.raises(UnsupportedModelError, match=message):
        distill(student, data=[str(text)], sequence_length=8, output=tmp_path / "out", dry_run=True)


def test_a_model_in_memory_is_verified(wrong_pair: tuple[Path, str], tmp_path: Path) -> None:
    student, message = wrong_pair
    with pytest.raises(UnsupportedModelError, match=message):
        build_intermediate_model(tmp_path / "teacher", student, 0)


_SIZES: dict[str, Any] = {"vocab_size": 32, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
ENCODERS = {
    "bert": lambda: BertForMaskedLM(BertConfig(**_SIZES, num_hidden_layers=4)),
    "distilbert": lambda: DistilBertForMaskedLM(
        DistilBertConfig(vocab_size=32, dim=16, n_heads=2, hidden_dim=32, n_layers=4)
    ),
}


@pytest.mark.parametrize("model_type", ENCODERS)
def test_encoders_are_verified_too(model_type: str, tmp_path: Path) -> None:
    ENCODERS[model_type]().save_pretrained(tmp_path / "teacher")
    init_student(tmp_path / "teacher", output=tmp_path / "student", keep=(0, 2))
    assert patch(layers=1, student=tmp_path / "student", output=tmp_path / "model", verify=True).verified is not None
