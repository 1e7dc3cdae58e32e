"""Checkpoints become models with the configuration of their own layers, and without code of their repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from files import edit_json
from tiny_models import KEPT, load, save_pair, text

from boomerang_cli.engine.checkpoint.checkpoint import open_checkpoint
from boomerang_cli.engine.errors import CheckpointError, UnsupportedModelError
from boomerang_cli.engine.models.loading import causal_class, load_model, load_tokenizer
from boomerang_cli.engine.pair.pair import open_pair


def test_a_student_with_the_teachers_layer_types_is_repaired(tmp_path: Path) -> None:
    teacher, student = save_pair(tmp_path, "qwen3")
    expected = load(student)(text()).logits
    stale = json.loads((teacher / "config.json").read_text())["layer_types"]
    edit_json(student / "config.json", layer_types=stale)
    pair = open_pair(student)
    model = load_model(pair.student, pair.config("student"), dtype=torch.float32)
    assert model.config.layer_types == [stale[layer] for layer in KEPT]
    torch.testing.assert_close(model(text()).logits, expected)


def test_code_that_a_config_names_is_never_fetched(tmp_path: Path) -> None:
    teacher, _ = save_pair(tmp_path, "llama")
    ran = tmp_path / "ran"
    (teacher / "modeling_evil.py").write_text(f"open({str(ran)!r}, 'w')\n")
    named = {"AutoConfig": "modeling_evil.Config", "AutoModelForCausalLM": "modeling_evil.Model"}
    edit_json(teacher / "config.json", auto_map=named, attn_implementation="somebody/kernel")
    checkpoint = open_checkpoint(teacher)
    load_model(checkpoint, checkpoint.config, dtype=torch.float32)
    load_tokenizer(checkpoint)
    assert not ran.exists()


def test_weights_that_are_missing_are_not_drawn_at_random(tmp_path: Path) -> None:
    _, student = save_pair(tmp_path, "llama")
    checkpoint = open_checkpoint(student)
    deeper = {**checkpoint.config, "num_hidden_layers": len(KEPT) + 1}
    with pytest.raises(CheckpointError, match=r"holds no weights for model\.layers\.5"):
        load_model(checkpoint, deeper, dtype=torch.float32)


def test_models_of_masked_words_are_refused(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(save_pair(tmp_path, "llama")[0])
    with pytest.raises(UnsupportedModelError, match="bert predicts masked words"):
        load_model(checkpoint, {**checkpoint.config, "model_type": "bert"}, dtype=torch.float32)


@pytest.mark.parametrize("model_type", ["roberta", "electra", "xlm-roberta"])
def test_encoders_are_refused_unless_they_run_as_decoders(model_type: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"{model_type} predicts masked words"):
        causal_class({"model_type": model_type}, "a model")
    settings, _ = causal_class({"model_type": model_type, "is_decoder": True}, "a model")
    assert settings.is_decoder


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    teacher, _ = save_pair(tmp_path, "gpt_neox")
    for path in teacher.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(CheckpointError, match=rf"{teacher} has no tokenizer"):
        load_tokenizer(open_checkpoint(teacher))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    teacher, _ = save_pair(tmp_path, "gpt_neox", vocab_size=32)
    with pytest.raises(CheckpointError, match="has 64 tokens, its model 32"):
        load_tokenizer(open_checkpoint(teacher))


def test_a_sentencepiece_tokenizer_without_its_package_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, _ = save_pair(tmp_path, "llama")
    for path in teacher.glob("tokenizer*"):
        path.unlink()
    (teacher / "tokenizer.model").write_bytes(b"pieces")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=r"tokenizer\.model needs the package sentencepiece: `pip install sent"):
        load_tokenizer(open_checkpoint(teacher))
