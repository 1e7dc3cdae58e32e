"""Head and embedding, one matrix or two: decided by configuration and files together, as transformers does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from files import edit_json, names, rewritten, tensor_bytes
from hub_double import HubDouble
from running import assert_refused
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

from boomerang_cli.engine.checkpoint import same_bytes
from boomerang_cli.engine.checkpoint.families import FAMILIES
from boomerang_cli.engine.errors import CheckpointError, UnsupportedModelError
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.models.intermediate import build_intermediate_model
from boomerang_cli.engine.pair.pair import open_pair
from boomerang_cli.engine.patch import patch


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
    rewritten(teacher, tmp_path / "student")
    assert json.loads((tmp_path / "student" / "config.json").read_text())["tie_word_embeddings"] is False
    torch.testing.assert_close(logits(tmp_path / "student"), logits(teacher), rtol=0, atol=0)


def test_a_masked_models_own_head_keeps_its_bias(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=64, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=48)
    model = BertForMaskedLM(config)
    torch.nn.init.normal_(model.cls.predictions.bias)
    model.save_pretrained(tmp_path / "teacher")
    change_weights(tmp_path / "teacher", **{"cls.predictions.decoder.weight": torch.randn(64, 32)})
    rewritten(tmp_path / "teacher", tmp_path / "student")
    after, before = (logits(tmp_path / name, AutoModelForMaskedLM) for name in ("student", "teacher"))
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_another_masked_models_own_head_is_used(tmp_path: Path) -> None:
    model = DistilBertForMaskedLM(DistilBertConfig(vocab_size=64, dim=32, n_layers=4, n_heads=4, hidden_dim=48))
    model.save_pretrained(tmp_path / "teacher")
    change_weights(tmp_path / "teacher", **{"vocab_projector.weight": torch.randn(64, 32)})
    rewritten(tmp_path / "teacher", tmp_path / "student")
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
    rewritten(teacher, tmp_path / "student")
    torch.testing.assert_close(logits(tmp_path / "student"), logits(teacher), rtol=0, atol=0)


@pytest.mark.parametrize("place", [0, 40, -1])
def test_one_value_that_differs_makes_two_matrices(place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_bytes, "_SAMPLE_BYTES", 64)
    monkeypatch.setattr(same_bytes, "_PIECE_BYTES", 100)
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


@pytest.fixture
def rows_on_the_hub(hub: HubDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubDouble:
    """A tied pair of which the student stores its head, too: lab/same is like the embedding, lab/row but for a row."""
    monkeypatch.setattr(same_bytes, "_SAMPLE_BYTES", 64)
    monkeypatch.setattr(same_bytes, "_PIECE_BYTES", 1_000)
    teacher, student = save_pair(tmp_path / "pair", "qwen3")
    edit_json(student / "student_config.json", teacher="lab/teacher")
    hub.add_model("lab/teacher", teacher)
    head = load_file(student / "model.safetensors")["model.embed_tokens.weight"]
    for name, changed in (("same", 0), ("row", 1)):
        head[5] += changed
        folder = shutil.copytree(student, tmp_path / "pair" / name)
        change_weights(folder, **{"lm_head.weight": head})
        hub.add_model(f"lab/{name}", folder)
    return hub


def test_a_dry_run_compares_samples_of_a_head_on_the_hub_and_counts_the_rest(
    rows_on_the_hub: HubDouble, tmp_path: Path
) -> None:
    result = patch(student="lab/same", layers=0, output=tmp_path / "out", dry_run=True)
    beside = sum(file.size_bytes for file in result.plan.companions)
    assert result.tied_embeddings
    assert sum(result.plan.fetch_bytes.values()) == result.bytes + beside + 2 * 64 * 32 * 4
    ranges = rows_on_the_hub.seen("GET", "/objects/.*safetensors")
    assert [request.bytes_sent for request in ranges].count(64) == 2 * 8


def test_a_copy_of_the_embedding_on_the_hub_is_left_out_once_all_of_it_is_compared(
    rows_on_the_hub: HubDouble, tmp_path: Path
) -> None:
    made = patch(student="lab/same", layers=0, output=tmp_path / "out")
    whole = patch(student="lab/same", layers=0, output=tmp_path / "whole", download=True)
    assert made.tied_embeddings
    assert tensor_bytes(tmp_path / "out") == tensor_bytes(tmp_path / "whole")
    assert whole.plan.presumed == ()


def test_a_head_that_no_sample_told_apart_is_refused_and_used_once_downloaded(
    rows_on_the_hub: HubDouble, tmp_path: Path
) -> None:
    words = ("patch", "--student", "lab/row", "--layers", "0", "-o", tmp_path / "out")
    assert_refused(*words, message="is not the copy of model.embed_tokens.weight that samples of it are")
    assert names(tmp_path) == ["cache", "pair"]
    assert not patch(student="lab/row", layers=0, output=tmp_path / "out", download=True).tied_embeddings


def test_a_students_head_is_not_compared_where_the_teachers_is_used(rows_on_the_hub: HubDouble, tmp_path: Path) -> None:
    assert patch(student="lab/row", layers=1, output=tmp_path / "out").plan.presumed == ()


def test_a_delta_of_a_student_that_stores_its_head_compares_it(rows_on_the_hub: HubDouble, tmp_path: Path) -> None:
    make_model(make_config("qwen3", tie_word_embeddings=True), 7).save_pretrained(tmp_path / "chat")
    init_student(tmp_path / "chat", delta="lab/same", output=tmp_path / "out")
    with pytest.raises(CheckpointError, match="is not the copy of"):
        init_student(tmp_path / "chat", delta="lab/row", output=tmp_path / "other")


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
