"""Types of the tables in parts: losses, gradients, perplexity and KL are those of whole models, or a line says no."""

from __future__ import annotations

from pathlib import Path

import pytest
from compute_proof import SCALED, check_distilled, check_scored, open_loaded
from family_proof import save_teacher
from files import names
from running import assert_refused
from test_derived_families import POPULAR
from tiny_models import make_tokenizer

from boomerang_cli.engine.errors import UnsupportedModelError
from boomerang_cli.engine.evaluation.agreement import check_stages
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.models.agreement import check_parts
from boomerang_cli.engine.models.head import Head

BY_HAND = ("gpt_oss", "qwen3_next", "deepseek_v3", "nemotron_h", "recurrent_gemma", "minicpm3")
SPECIAL = ("hyperclovax", "falcon_h1", "nanochat", "openai-gpt", "gptj", "bart", "longcat_flash", "qwen4_exp_text")
"""Scales, norms without weights, lists instead of tuples, depths of another name, two streams."""


@pytest.mark.parametrize("model_type", sorted({*POPULAR, *BY_HAND, *SPECIAL}))
def test_a_model_in_parts_is_the_whole_model(model_type: str, tmp_path: Path) -> None:
    save_teacher(model_type, tmp_path / "teacher", **{**POPULAR.get(model_type, {}), **SCALED.get(model_type, {})})
    loaded = open_loaded(tmp_path / "teacher")
    check_distilled(loaded)
    check_scored(loaded)


def test_a_head_with_layers_of_its_own_is_refused(tmp_path: Path) -> None:
    save_teacher("modernbert-decoder", tmp_path / "teacher")
    loaded = open_loaded(tmp_path / "teacher")
    with pytest.raises(UnsupportedModelError, match="a model: models of modernbert-decoder cannot be distilled, only"):
        check_parts(loaded.models["teacher"], 8, "a model")
    with pytest.raises(UnsupportedModelError, match="modernbert-decoder cannot be scored, only patched: its logits"):
        check_stages(loaded)


def test_hidden_states_that_are_not_one_a_token_are_refused(tmp_path: Path) -> None:
    save_teacher("cpmant", tmp_path / "teacher")
    model = open_loaded(tmp_path / "teacher").models["teacher"]
    with pytest.raises(UnsupportedModelError, match=r"cpmant cannot be distilled, .*: hidden states 0 of 8 tokens are"):
        check_parts(model, 8, "a model")


def test_a_scale_that_is_not_known_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_teacher("granite", tmp_path / "teacher", logits_scaling=4.0)
    loaded = open_loaded(tmp_path / "teacher")
    monkeypatch.setattr(Head, "of", classmethod(lambda cls, model: Head(model.get_output_embeddings().weight)))
    with pytest.raises(UnsupportedModelError, match="granite cannot be scored, only patched: its logits differ"):
        check_stages(loaded)


def test_texts_that_a_body_runs_in_pieces_are_refused(tmp_path: Path) -> None:
    save_teacher("xlstm", tmp_path / "teacher")
    loaded = open_loaded(tmp_path / "teacher")
    for check in (check_distilled, check_scored):
        with pytest.raises(UnsupportedModelError, match="in pieces: give a shorter --sequence-length"):
            check(loaded)


def test_commands_refuse_such_a_type_in_a_line_and_leave_nothing(tmp_path: Path) -> None:
    save_teacher("modernbert-decoder", tmp_path / "teacher")
    make_tokenizer().save_pretrained(tmp_path / "teacher")
    init_student(tmp_path / "teacher", output=tmp_path / "student", keep=(0, 2, 4, 5, 7))
    (tmp_path / "text.txt").write_text("w3 w4 w5 w6 w7 " * 20)
    given = ("--data", tmp_path / "text.txt", "--sequence-length", 8, "-o", tmp_path / "output", "--quiet")
    message = r"models of modernbert-decoder cannot be {}, only patched: its logits differ from the whole model's"
    assert_refused("sweep", "--student", tmp_path / "student", *given, message=message.format("scored"))
    distilled = ("distill", tmp_path / "student", "--steps", 1, "--batch-size", 1, *given)
    assert_refused(*distilled, message=message.format("distilled"))
    assert names(tmp_path) == ["student", "teacher", "text.txt"]
