"""A pair's tensors are compared with the model class before any work: each is named as in its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from files import edit_json
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, LAYERS, save_pair

from boomerang_cli.engine.distill import distill
from boomerang_cli.engine.errors import CheckpointError
from boomerang_cli.engine.models.intermediate import build_intermediate_model
from boomerang_cli.engine.models.model_class import check_pair
from boomerang_cli.engine.pair.pair import open_pair
from boomerang_cli.engine.sweep import sweep

BIAS = "model.layers.{}.self_attn.q_proj.bias"
UNKNOWN = r"model\.safetensors holds model\.layers\.\d\.self_attn\.q_proj\.bias, which LlamaForCausalLM"


def add_biases(folder: Path, layers: int) -> None:
    tensors = load_file(folder / "model.safetensors")
    biases = {BIAS.format(layer): torch.zeros(32) for layer in range(layers)}
    save_file({**tensors, **biases}, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def biased(tmp_path: Path) -> tuple[Path, Path]:
    """A pair whose files hold biases that its configuration does not speak of."""
    teacher, student = save_pair(tmp_path, "llama")
    add_biases(teacher, LAYERS)
    add_biases(student, 5)
    (tmp_path / "text.txt").write_text("w3 w4 w5 " * 200)
    return teacher, student


@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_pair_of_a_family_is_what_its_class_has(family: str, tmp_path: Path) -> None:
    _, student = save_pair(tmp_path, family)
    check_pair(open_pair(student))


def test_a_training_is_refused_before_its_first_step(biased: tuple[Path, Path], tmp_path: Path) -> None:
    data = [str(tmp_path / "text.txt")]
    for dry_run in (True, False):
        with pytest.raises(CheckpointError, match=UNKNOWN):
            distill(biased[1], output=tmp_path / "out", data=data, steps=1, sequence_length=8, dry_run=dry_run)
    assert not list(tmp_path.glob("*out*"))


def test_a_sweep_is_refused_before_a_model_is_loaded(biased: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=UNKNOWN):
        sweep(student=biased[1], data=[str(tmp_path / "text.txt")], output=tmp_path / "out")
    with pytest.raises(CheckpointError, match=UNKNOWN):
        build_intermediate_model(*biased, 1)


def test_what_the_class_has_and_the_files_lack_is_named(tmp_path: Path) -> None:
    teacher, student = save_pair(tmp_path, "llama")
    edit_json(teacher / "config.json", attention_bias=True)
    with pytest.raises(CheckpointError, match=r"teacher lacks model\.layers\.0\.self_attn\.k_proj\.bias"):
        check_pair(open_pair(student))


def test_a_shape_that_the_configuration_does_not_give_is_named(tmp_path: Path) -> None:
    teacher, student = save_pair(tmp_path, "llama")
    for folder in (teacher, student):
        edit_json(folder / "config.json", intermediate_size=64)
    with pytest.raises(CheckpointError, match=r"mlp\.\w+\.weight has the shape \[.*\], Llama.* needs \[.*64"):
        check_pair(open_pair(student))
