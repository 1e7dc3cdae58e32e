"""Which of a folder's weights are read: those that transformers reads, by every command; the others are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from files import edit_json, rewritten, tensor_bytes
from hub_double import HubDouble
from tiny_models import load, make_config, make_model

from boomerang_cli.engine.checkpoint import checkpoint as checkpoint_module
from boomerang_cli.engine.checkpoint.checkpoint import open_checkpoint
from boomerang_cli.engine.checkpoint.files import RemoteFile
from boomerang_cli.engine.errors import CheckpointError
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.models.loading import load_model


def save_twice(folder: Path, first: str, second: str) -> Path:
    """Save two different models into one folder, as people do; transformers leaves the other kind of file behind."""
    make_model(make_config("llama"), 1).save_pretrained(folder, max_shard_size=first)
    make_model(make_config("llama"), 2).save_pretrained(folder, max_shard_size=second)
    return folder


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    heard: list[tuple[str, ...]] = []
    monkeypatch.setattr(checkpoint_module, "on_set_aside", lambda name, used, others: heard.append(tuple(others)))
    return heard


@pytest.mark.parametrize("sizes", [("20KB", "5GB"), ("5GB", "20KB")])
def test_of_two_sets_of_weights_the_one_is_read_that_transformers_reads(
    sizes: tuple[str, str], tmp_path: Path, told: list[tuple[str, ...]]
) -> None:
    teacher = save_twice(tmp_path / "teacher", *sizes)
    rewritten(teacher, tmp_path / "student")
    for name, tensor in load(teacher).state_dict().items():
        assert torch.equal(load(tmp_path / "student").state_dict()[name], tensor)
    assert "model.safetensors.index.json" in told[0]
    assert "model.safetensors" not in told[0]


def test_the_model_in_memory_is_the_one_that_the_headers_are_of(tmp_path: Path) -> None:
    folder = save_twice(tmp_path / "teacher", "20KB", "5GB")
    checkpoint = open_checkpoint(folder)
    loaded = load_model(checkpoint, checkpoint.config, dtype=torch.float32).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in load(folder).state_dict().items())


def test_the_file_that_the_configuration_names_comes_first(tmp_path: Path) -> None:
    folder = save_twice(tmp_path / "teacher", "5GB", "5GB")
    make_model(make_config("llama"), 3).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").rename(folder / "best.safetensors")
    edit_json(folder / "config.json", transformers_weights="best.safetensors")
    student = rewritten(folder, tmp_path / "student")
    name = "model.norm.weight"
    assert torch.equal(load(student).state_dict()[name], load(folder).state_dict()[name])
    assert "transformers_weights" not in json.loads((student / "config.json").read_text())


def test_a_variant_alone_is_not_read_and_named(tmp_path: Path) -> None:
    make_model(make_config("llama"), 1).save_pretrained(tmp_path, variant="fp16")
    with pytest.raises(CheckpointError, match=r"no model\.safetensors .*model\.fp16\.safetensors is not read"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("named", ["../x.safetensors", "weights.bin", 3])
def test_a_configuration_that_names_no_weights_is_refused(named: object, tmp_path: Path) -> None:
    make_model(make_config("llama"), 1).save_pretrained(tmp_path)
    edit_json(tmp_path / "config.json", transformers_weights=named)
    with pytest.raises(CheckpointError, match="no usable transformers_weights"):
        open_checkpoint(tmp_path)


def test_a_configuration_that_names_weights_that_are_gone_is_refused(tmp_path: Path) -> None:
    make_model(make_config("llama"), 1).save_pretrained(tmp_path)
    edit_json(tmp_path / "config.json", transformers_weights="gone.safetensors")
    with pytest.raises(CheckpointError, match=r"has no gone\.safetensors, which its config\.json names"):
        open_checkpoint(tmp_path)


def test_what_is_set_aside_is_not_fetched_from_the_hub(hub: HubDouble, tmp_path: Path) -> None:
    teacher = save_twice(tmp_path / "teacher", "20KB", "5GB")
    (teacher / "model.fp16.safetensors").write_bytes(b"x" * 1000)
    hub.add_model("lab/teacher", teacher)
    opened = open_checkpoint("lab/teacher")
    assert [path.name for path in (tmp_path / "cache").rglob("*.safetensors*")] == ["model.safetensors"]
    assert isinstance(opened.files["model.fp16.safetensors"], RemoteFile)
    init_student("lab/teacher", output=tmp_path / "remote")
    init_student(teacher, output=tmp_path / "local")
    assert tensor_bytes(tmp_path / "remote") == tensor_bytes(tmp_path / "local")


@pytest.mark.parametrize("keys", [("dtype",), ("torch_dtype",), ("dtype", "torch_dtype")])
def test_both_names_of_the_dtype_say_the_same(keys: tuple[str, ...], tmp_path: Path) -> None:
    make_model(make_config("llama"), 1).save_pretrained(tmp_path / "teacher")
    edit_json(tmp_path / "teacher" / "config.json", **{"dtype": None, **dict.fromkeys(keys, "float32")})
    init_student(tmp_path / "teacher", output=tmp_path / "student", dtype="bfloat16")
    written = json.loads((tmp_path / "student" / "config.json").read_text())
    assert {key: written[key] for key in ("dtype", "torch_dtype") if key in written} == dict.fromkeys(keys, "bfloat16")


def test_both_names_of_the_depth_say_the_same(tmp_path: Path) -> None:
    make_model(make_config("gpt2"), 1).save_pretrained(tmp_path / "teacher")
    edit_json(tmp_path / "teacher" / "config.json", num_hidden_layers=8)
    init_student(tmp_path / "teacher", output=tmp_path / "student", keep=[0, 2, 4])
    written = json.loads((tmp_path / "student" / "config.json").read_text())
    assert (written["n_layer"], written["num_hidden_layers"]) == (3, 3)
    assert len(load(tmp_path / "student").transformer.h) == 3


def test_the_command_says_once_what_it_sets_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from boomerang_cli.cli.output import Output

    monkeypatch.setattr(checkpoint_module, "on_set_aside", None)
    monkeypatch.setattr("boomerang_cli.engine.checkpoint.hub_reading.on_download", None)
    Output()
    folder = save_twice(tmp_path / "teacher", "5GB", "5GB")
    (folder / "old.safetensors").write_bytes(b"")
    for _ in range(2):
        open_checkpoint(folder)
    said = f"{folder}: weights are read from model.safetensors, as transformers does; set aside: old.safetensors"
    assert capsys.readouterr().err.count(said) == 1
