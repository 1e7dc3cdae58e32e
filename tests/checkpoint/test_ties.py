"""Head and embedding, one matrix or two: decided by configuration and files together, as transformers does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from files import edit_json, tensor_bytes
from hub_double import HubDouble
from safetensors.torch import load_file, save_file
from tiny_models import make_config, make_model, save_pair, text
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
)

from boomerang_cli.engine.checkpoint import ties
from boomerang_cli.engine.checkpoint.families import FAMILIES
from boomerang_cli.engine.errors import CheckpointError, UnsupportedModelError
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.models.intermediate import build_intermediate_model
from boomerang_cli.engine.pair.pair import open_pair
from boomerang_cli.engine.patch import patch

ALL = list(range(8))


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in changes.items():
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor.clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def tied_teacher(folder: Path, family: str) -> tuple[Path, torch.Tensor]:
    """Return a teacher whose configuration says tied, and its embedding."""
    make_model(make_config(family, tie_word_embeddings=True), 1).save_pretrained(folder)
    return folder, load_file(folder / "model.safetensors")[FAMILIES[family].embedding]


def logits(folder: Path, kind: Any = AutoModelForCausalLM) -> torch.Tensor:
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        found: torch.Tensor = model(text()).logits
    return found


@pytest.mark.parametrize("family", ["qwen3", "gemma2", "gpt2", "opt", "gpt_neox"])
def test_a_head_of_its_own_beside_a_tied_configuration_is_used(family: str, tmp_path: Path) -> None:
    teacher, embedding = tied_teacher(tmp_path / "teacher", family)
    change_weights(teacher, **{FAMILIES[family].head: embedding * 2 + 1})
    init_student(teacher, output=tmp_path / "student", keep=ALL)
    assert json.loads((tmp_path / "student" / "config.json").read_text())["tie_word_embeddings"] is False
    torch.testing.assert_close(logits(tmp_path / "student"), logits(teacher), rtol=0, atol=0)


def test_a_masked_models_own_head_keeps_its_bias(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=64, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=48)
    model = BertForMaskedLM(config)
    torch.nn.init.normal_(model.cls.predictions.bias)
    model.save_pretrained(tmp_path / "teacher")
    change_weights(tmp_path / "teacher", **{"cls.predictions.decoder.weight": torch.randn(64, 32)})
    init_student(tmp_path / "teacher", output=tmp_path / "student", keep=[0, 1, 2, 3])
    after, before = (logits(tmp_path / name, AutoModelForMaskedLM) for name in ("student", "teacher"))
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_another_masked_models_own_head_is_used(tmp_path: Path) -> None:
    model = DistilBertForMaskedLM(DistilBertConfig(vocab_size=64, dim=32, n_layers=4, n_heads=4, hidden_dim=48))
    model.save_pretrained(tmp_path / "teacher")
    change_weights(tmp_path / "teacher", **{"vocab_projector.weight": torch.randn(64, 32)})
    init_student(tmp_path / "teacher", output=tmp_path / "student", keep=[0, 1, 2, 3])
    after, before = (logits(tmp_path / name, AutoModelForMaskedLM) for name in ("student", "teacher"))
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_the_stored_copy_of_a_tied_embedding_is_left_out(tmp_path: Path) -> None:
    teacher, embedding = tied_teacher(tmp_path / "teacher", "qwen3")
    change_weights(teacher, **{"lm_head.weight": embedding})
    assert init_student(teacher, output=tmp_path / "student").plan.tied
    assert "lm_head.weight" not in tensor_bytes(tmp_path / "student")


@pytest.mark.parametrize("family", ["qwen3", "gpt_neox"])
def test_a_tied_matrix_stored_as_the_head_alone_is_read_as_both(family: str, tmp_path: Path) -> None:
    teacher, embedding = tied_teacher(tmp_path / "teacher", family)
    change_weights(teacher, **{FAMILIES[family].head: embedding, FAMILIES[family].embedding: None})
    init_student(teacher, output=tmp_path / "student", keep=ALL)
    torch.testing.assert_close(logits(tmp_path / "student"), logits(teacher), rtol=0, atol=0)


@pytest.mark.parametrize("place", [0, 40, -1])
def test_one_value_that_differs_makes_two_matrices(place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ties, "_FIRST_BYTES", 64)
    monkeypatch.setattr(ties, "_PIECE_BYTES", 100)
    teacher, embedding = tied_teacher(tmp_path / "teacher", "qwen3")
    head = embedding.clone()
    head.view(-1)[place] += 1
    change_weights(teacher, **{"lm_head.weight": head})
    assert not init_student(teacher, output=tmp_path / "student").plan.tied


def test_a_pair_whose_teacher_has_its_own_head_ends_in_the_teacher(tmp_path: Path) -> None:
    teacher, student = save_pair(tmp_path, "qwen3")
    change_weights(teacher, **{"lm_head.weight": torch.randn(64, 32)})
    patch(student=student, teacher=teacher, layers=3, output=tmp_path / "whole")
    torch.testing.assert_close(logits(tmp_path / "whole"), logits(teacher), rtol=0, atol=0)
    with torch.no_grad():
        built = build_intermediate_model(teacher, student, 3)(text()).logits
    torch.testing.assert_close(built, logits(teacher), rtol=0, atol=1e-3)  # another attention kernel
    parts = open_pair(student, teacher).parts
    assert (parts["student"].tied, parts["teacher"].tied) == (True, False)


def test_a_head_on_the_hub_is_compared_by_its_first_bytes(hub: HubDouble, tmp_path: Path) -> None:
    teacher, embedding = tied_teacher(tmp_path / "teacher", "qwen3")
    change_weights(teacher, **{"lm_head.weight": embedding + 1})
    hub.add_model("lab/teacher", teacher)
    assert not init_student("lab/teacher", output=tmp_path / "one", dry_run=True).plan.tied
    change_weights(teacher, **{"lm_head.weight": embedding})
    hub.add_model("lab/copy", teacher)
    assert init_student("lab/copy", output=tmp_path / "two", dry_run=True).plan.tied


def test_a_head_of_another_size_is_refused(tmp_path: Path) -> None:
    teacher, embedding = tied_teacher(tmp_path / "teacher", "qwen3")
    change_weights(teacher, **{"lm_head.weight": embedding[:-1]})
    with pytest.raises(CheckpointError, match=r"lm_head.weight has the shape \[63, 32\]"):
        init_student(teacher, output=tmp_path / "student")


def test_a_word_says_neither_tied_nor_untied(tmp_path: Path) -> None:
    teacher, _ = tied_teacher(tmp_path / "teacher", "qwen3")
    edit_json(teacher / "config.json", tie_word_embeddings="false")
    with pytest.raises(UnsupportedModelError, match="no usable tie_word_embeddings"):
        init_student(teacher, output=tmp_path / "student")
