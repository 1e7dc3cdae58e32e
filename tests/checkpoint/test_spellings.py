"""Tensors' names as they stand on the Hub: the result is what transformers makes of the same teacher, difference 0."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from family_proof import save_teacher
from files import edit_json, tensor_bytes
from running import assert_refused
from spellings import Tensors, add, check_respelled, read_tensors, rename, write_tensors
from tiny_types import DEPTH
from transformers import AutoModelForCausalLM

from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.patch import patch

ONE = [(1, "last")]


def save_body(folder: Path, family: Family) -> None:
    """Write the body alone, which has neither the prefix nor a head, as files of GPT-2, BLOOM and others do."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    shutil.rmtree(folder)
    model.base_model.save_pretrained(folder)
    assert not any(name.startswith(family.base) for name in read_tensors(folder))


@pytest.mark.parametrize("model_type", ["gpt2", "bloom", "mamba", "bart"])
def test_a_body_saved_alone_is_read_by_the_whole_models_names(model_type: str, tmp_path: Path) -> None:
    check_respelled(model_type, save_body, tmp_path, models=ONE, tie_word_embeddings=True)


@pytest.mark.parametrize("model_type", ["llama", "ernie"])
def test_heads_beside_a_body_without_a_prefix_keep_their_names(model_type: str, tmp_path: Path) -> None:
    def strip(folder: Path, family: Family) -> None:
        rename(folder, lambda name: name.removeprefix(family.base))

    check_respelled(model_type, strip, tmp_path, models=ONE)


def with_old_norms(folder: Path, _: Any = None) -> None:
    renamed = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    rename(folder, lambda name: next((name.replace(new, old) for new, old in renamed.items() if new in name), name))


def test_norms_are_read_by_the_names_that_tensorflow_gave_them(tmp_path: Path) -> None:
    check_respelled("ernie", with_old_norms, tmp_path)


def test_a_teacher_with_old_names_fits_a_student_with_new_ones(tmp_path: Path) -> None:
    save_teacher("ernie", tmp_path / "teacher")
    init_student(tmp_path / "teacher", output=tmp_path / "student", keep=[0, 2, 4, 6])
    with_old_norms(tmp_path / "teacher")
    patch(layers=4, student=tmp_path / "student", teacher=tmp_path / "teacher", output=tmp_path / "patched")
    save_teacher("ernie", tmp_path / "plain")
    assert tensor_bytes(tmp_path / "patched") == tensor_bytes(tmp_path / "plain")


def test_a_tensor_of_two_names_is_refused(tmp_path: Path) -> None:
    save_teacher("ernie", tmp_path / "teacher")
    name = "ernie.embeddings.LayerNorm."
    add(tmp_path / "teacher", {f"{name}gamma": read_tensors(tmp_path / "teacher")[f"{name}weight"]})
    message = rf"holds {name}(weight and {name}gamma|gamma and {name}weight), two names of one tensor"
    assert_refused("init-student", tmp_path / "teacher", "-o", tmp_path / "student", message=message)


def in_each_layer(family: Family, tensors: Tensors) -> Tensors:
    return {f"{family.layers}{layer}.{name}": tensor for layer in range(DEPTH) for name, tensor in tensors.items()}


MASK, ANGLES, POSITIONS = torch.ones(1, 1, 4, 4, dtype=torch.bool), torch.ones(4), torch.arange(64)[None]
IN_LAYERS: dict[str, Tensors] = {
    "gpt2": {"attn.bias": MASK, "attn.masked_bias": torch.tensor(-1e4)},
    "gpt_neox": {"attention.bias": MASK, "attention.masked_bias": torch.tensor(-1e9),
                 "attention.rotary_emb.inv_freq": ANGLES},
    "gptj": {"attn.bias": MASK, "attn.masked_bias": torch.tensor(-1e9)},
    "gpt_neo": {"attn.attention.bias": MASK, "attn.attention.masked_bias": torch.tensor(-1e9)},
    "codegen": {"attn.causal_mask": MASK},
}  # fmt: skip


@pytest.mark.parametrize("model_type", IN_LAYERS)
def test_masks_and_positions_that_were_stored_once_are_left_out(model_type: str, tmp_path: Path) -> None:
    check_respelled(
        model_type,
        lambda folder, family: add(folder, in_each_layer(family, IN_LAYERS[model_type])),
        tmp_path,
        models=ONE,
    )


@pytest.mark.parametrize("model_type", ["roberta", "megatron-bert"])
def test_an_encoders_other_heads_go_with_its_last_layer_and_positions_are_left_out(
    model_type: str, tmp_path: Path
) -> None:
    family_base = {"roberta": "roberta.", "megatron-bert": "bert."}[model_type]
    heads = {f"{family_base}pooler.dense.weight": torch.ones(64, 64)}
    heads |= {"cls.seq_relationship.weight": torch.ones(2, 64)} if model_type == "megatron-bert" else {}
    save_teacher(model_type, tmp_path / "teacher")
    add(tmp_path / "teacher", {**heads, f"{family_base}embeddings.position_ids": POSITIONS})
    init_student(tmp_path / "teacher", output=tmp_path / "student", keep=[0, 2, 4, 6])
    patch(layers=1, student=tmp_path / "student", output=tmp_path / "patched")
    for folder in ("student", "patched"):
        written = read_tensors(tmp_path / folder).keys()
        assert {name for name in written if "pooler" in name or "relationship" in name} == heads.keys()
        assert not any("position_ids" in name for name in written)


def fuse(folder: Path, _: Any) -> None:
    """Write experts as one tensor a layer, as transformers 5 holds them in memory."""
    before = read_tensors(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    shutil.rmtree(folder)
    model.save_pretrained(folder, save_original_format=False)
    assert any(".experts.0." in name for name in before)
    assert not any(".experts.0." in name for name in read_tensors(folder))


@pytest.mark.parametrize("model_type", ["mixtral", "olmoe", "phimoe"])
def test_experts_in_one_tensor_are_moved_as_they_are(model_type: str, tmp_path: Path) -> None:
    check_respelled(model_type, fuse, tmp_path, models=ONE)


def behind_the_last(folder: Path, family: Family) -> None:
    """Add the layer that predicts one token more, as DeepSeek-V3 and GLM-4.5 hold it."""
    last = f"{family.layers}{DEPTH - 1}."
    own = {name.removeprefix(last): tensor for name, tensor in read_tensors(folder).items() if name.startswith(last)}
    own |= {"eh_proj.weight": torch.ones(64, 128), "enorm.weight": torch.ones(64), "hnorm.weight": torch.ones(64)}
    own |= {"embed_tokens.weight": torch.ones(128, 64), "shared_head.head.weight": torch.ones(128, 64)}
    add(folder, {f"{family.layers}{DEPTH}.{name}": tensor for name, tensor in own.items()})
    edit_json(folder / "config.json", num_nextn_predict_layers=1)


@pytest.mark.parametrize("model_type", ["deepseek_v3", "glm4_moe_lite"])
def test_prediction_layers_behind_the_last_are_left_out(model_type: str, tmp_path: Path) -> None:
    check_respelled(model_type, behind_the_last, tmp_path, models=ONE)


APART = {
    "qwen3_next": "mtp.layers.0.mlp.gate.weight",
    "mimo_v2_flash": "model.mtp.layers.0.eh_proj.weight",
    "ernie4_5_moe": "model.mtp_block.0.mlp.up_proj.weight",
}


@pytest.mark.parametrize("model_type", APART)
def test_prediction_layers_apart_from_the_layers_are_left_out(model_type: str, tmp_path: Path) -> None:
    def respell(folder: Path, _: Family) -> None:
        add(folder, {APART[model_type]: torch.ones(4, 4)})
        edit_json(folder / "config.json", mtp_num_hidden_layers=1)

    check_respelled(model_type, respell, tmp_path, models=ONE)


@pytest.mark.parametrize("model_type", ["qwen3", "falcon"])
@pytest.mark.parametrize("stored", ["both", "head"])
def test_a_tied_models_matrix_may_stand_by_either_name(model_type: str, stored: str, tmp_path: Path) -> None:
    def respell(folder: Path, family: Family) -> None:
        tensors = read_tensors(folder)
        tensors[family.head] = tensors[family.embedding]
        if stored == "head":
            del tensors[family.embedding]
        write_tensors(folder, tensors)

    check_respelled(model_type, respell, tmp_path, models=ONE, tie_word_embeddings=True)


@pytest.mark.parametrize("model_type", ["llama", "olmoe"])
def test_a_head_that_is_missing_though_untied_is_refused(model_type: str, tmp_path: Path) -> None:
    save_teacher(model_type, tmp_path / "teacher", tie_word_embeddings=False)
    tensors = read_tensors(tmp_path / "teacher")
    write_tensors(tmp_path / "teacher", {name: each for name, each in tensors.items() if name != "lm_head.weight"})
    message = "lacks the tensor lm_head.weight"
    assert_refused("init-student", tmp_path / "teacher", "-o", tmp_path / "student", message=message)


def test_a_type_that_never_ties_is_refused_where_its_config_says_so(tmp_path: Path) -> None:
    save_teacher("nemotron_h", tmp_path / "teacher", tie_word_embeddings=True)
    message = "no nemotron_h model is tied: set it to false"
    assert_refused("init-student", tmp_path / "teacher", "-o", tmp_path / "student", message=message)
