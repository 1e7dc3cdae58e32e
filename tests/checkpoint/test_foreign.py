"""What is no plain model is recognised by every command that opens it, and refused with the way out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from files import edit_json, names
from hub_double import HubDouble
from running import assert_refused
from safetensors.torch import load_file, save_file
from tiny_models import make_config, make_model, make_tokenizer

from boomerang_cli.engine.checkpoint.checkpoint import open_checkpoint
from boomerang_cli.engine.errors import CheckpointError, UnsupportedModelError
from boomerang_cli.engine.init_student import init_student

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
LAYER = "model.layers.3.self_attn.k_proj"


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    folder = tmp_path / "teacher"
    make_model(make_config("llama"), 1).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def edit_tensors(folder: Path, **changes: torch.Tensor) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, **changes}, folder / "model.safetensors", metadata={"format": "pt"})


def rename_tensors(folder: Path, before: str, after: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    renamed = {name.replace(before, after, 1): tensor for name, tensor in tensors.items()}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})


def refused(teacher: Path, message: str) -> None:
    assert_refused("init-student", teacher, "-o", teacher.parent / "student", message=message)
    assert names(teacher.parent) == ["teacher"]


QUANTISED: dict[str, torch.Tensor] = {
    f"{LAYER}.weight_scale": torch.tensor(1.5),
    f"{LAYER}.weight_scale_inv": torch.ones(1, 1),
    f"{LAYER}.input_scale": torch.tensor(1.0),
    "model.layers.3.self_attn.k_scale": torch.tensor(1.0),
    f"{LAYER}.qweight": torch.zeros(2, 2, dtype=torch.int32),
    f"{LAYER}.scales": torch.ones(2, 2, dtype=torch.float16),
    f"{LAYER}.weight.absmax": torch.ones(4),
    f"{LAYER}.weight.quant_state.bitsandbytes__nf4": torch.zeros(4, dtype=torch.uint8),
    f"{LAYER}.SCB": torch.ones(4),
    f"{LAYER}.weight": torch.zeros(16, 32).to(torch.float8_e4m3fn),
    "model.layers.3.mlp.up_proj.weight": torch.zeros(48, 32, dtype=torch.int8),
}


@pytest.mark.parametrize("name", QUANTISED)
def test_quantised_weights_are_known_by_name_and_dtype(name: str, teacher: Path) -> None:
    edit_tensors(teacher, **{name: QUANTISED[name]})
    refused(teacher, rf"quantised weights or their scales \({name} in [A-Z0-9_]+\): give the unquantised model")


@pytest.mark.parametrize("key", ["quantization_config", "compression_config", "quantization"])
def test_quantised_weights_are_known_by_the_configuration(key: str, teacher: Path) -> None:
    edit_json(teacher / "config.json", **{key: {"quant_method": "compressed-tensors"}})
    refused(teacher, rf"quantised weights .*\({key} in config\.json, compressed-tensors\)")


@pytest.mark.parametrize("name", ["hf_quant_config.json", "quantize_config.json"])
def test_quantised_weights_are_known_by_another_tools_file(name: str, teacher: Path) -> None:
    (teacher / name).write_text("{}")
    refused(teacher, rf"quantised weights .*\({name}\): give the unquantised model, or remove {name}")


def test_an_adapter_beside_a_model_is_refused(teacher: Path) -> None:
    (teacher / "adapter_config.json").write_text("{}")
    refused(teacher, r"holds a LoRA adapter beside its weights \(adapter_config\.json\).*merge_and_unload")


def test_an_adapter_alone_is_named_as_what_it_is(tmp_path: Path, hub: HubDouble) -> None:
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "adapter_config.json").write_text("{}")
    (tmp_path / "teacher" / "adapter_model.safetensors").write_bytes(b"")
    hub.add_model("lab/adapter", tmp_path / "teacher")
    for model, download in ((tmp_path / "teacher", False), ("lab/adapter", False), ("lab/adapter", True)):
        with pytest.raises(UnsupportedModelError, match=r"is a LoRA adapter .*merge it into its base"):
            open_checkpoint(model, download=download)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_pointer_of_git_lfs_in_place_of_a_file_is_named(name: str, teacher: Path) -> None:
    (teacher / name).write_text(POINTER)
    refused(teacher, rf"{name} is a Git LFS pointer, not the file itself: run `git lfs pull`")


def test_a_pointer_in_place_of_a_shard_is_named(tmp_path: Path) -> None:
    make_model(make_config("llama"), 1).save_pretrained(tmp_path, max_shard_size="20KB")
    shard = min(tmp_path.glob("*.safetensors"))
    shard.write_text(POINTER)
    with pytest.raises(CheckpointError, match=rf"{shard.name} is a Git LFS pointer"):
        open_checkpoint(tmp_path)


def test_a_pointer_in_place_of_a_file_that_is_not_read_does_not_matter(teacher: Path) -> None:
    (teacher / "pytorch_model.bin").write_text(POINTER)
    assert open_checkpoint(teacher).tensors


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("", "_orig_mod.", r"holds _orig_mod\.lm_head\.weight: .*torch\.compile"),
        ("", "module.", r"holds module\.lm_head\.weight: .*DistributedDataParallel"),
        ("", "base_model.model.", r"holds base_model\.model\.lm_head\.weight: .*peft"),
        ("model.layers.0.", "model.layers.0._orig_mod.", r"holds model\.layers\.0\._orig_mod\..*torch\.compile"),
        ("k_proj.weight", "k_proj.lora_A.default.weight", "lora_A.* an adapter that is not merged"),
    ],
)
def test_names_of_a_wrapper_are_told_as_they_stand_in_the_file(
    before: str, after: str, message: str, teacher: Path
) -> None:
    rename_tensors(teacher, before, after)
    refused(teacher, message)


def test_a_tensor_that_the_family_does_not_have_is_named(teacher: Path) -> None:
    edit_tensors(teacher, **{"lm_head.bias": torch.zeros(64)})
    refused(teacher, r"holds lm_head\.bias, which llama models do not have")


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox"])
def test_buffers_that_older_versions_stored_are_not_taken_for_quantised(family: str, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    make_model(make_config(family), 1).save_pretrained(teacher)
    name = {"gpt2": "transformer.h.0.attn.bias", "gpt_neox": "gpt_neox.layers.0.attention.bias"}[family]
    edit_tensors(teacher, **{name: torch.ones(1, 1, 4, 4, dtype=torch.uint8)})
    init_student(teacher, output=tmp_path / "student")
    assert json.loads((tmp_path / "student" / "config.json").read_text())
