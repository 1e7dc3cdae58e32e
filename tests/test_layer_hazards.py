"""Values that follow layers in ways of their own: followed, asked of the class, or refused; never guessed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from files import edit_json
from safetensors import safe_open
from tiny_models import KEPT, LAYERS, load, save_pair
from transformers import AutoModelForCausalLM, Olmo3Config

from boomerang_cli.engine.checkpoint.checkpoint import read_checkpoint
from boomerang_cli.engine.checkpoint.class_config import as_transformers_config
from boomerang_cli.engine.checkpoint.families import FAMILIES, Family
from boomerang_cli.engine.checkpoint.family_table import known_family
from boomerang_cli.engine.checkpoint.layer_config import config_for_layers
from boomerang_cli.engine.checkpoint.parts import take_apart
from boomerang_cli.engine.errors import CheckpointError, UnsupportedModelError
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.patch import patch

LISTS = Family(layer_lists=("layer_types",))


def test_a_list_that_is_absent_is_that_of_the_class() -> None:
    made = config_for_layers({"model_type": "olmo3", "num_hidden_layers": LAYERS}, LISTS, KEPT, "a model")
    types = Olmo3Config(num_hidden_layers=LAYERS).layer_types
    assert types is not None
    assert made["layer_types"] == [types[layer] for layer in KEPT]


def test_a_list_that_no_class_knows_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match=r"a model: transformers cannot read its config\.json"):
        config_for_layers({"model_type": "novelty", "num_hidden_layers": LAYERS}, LISTS, KEPT, "a model")


def test_a_list_that_the_class_does_not_have_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="layer_types in config"):
        config_for_layers({"model_type": "olmo", "num_hidden_layers": LAYERS}, LISTS, KEPT, "a model")


def test_values_of_single_layers_follow_their_layers() -> None:
    overrides = {"0": {"a": 0}, "3": {"a": 3}, "4": {"a": 4}, "7": {"a": 7}}
    config = {"model_type": "llama", "num_hidden_layers": LAYERS, "per_layer_config": overrides}
    made = config_for_layers(config, Family(), KEPT, "a model")
    assert made["per_layer_config"] == {"0": {"a": 0}, "2": {"a": 4}, "4": {"a": 7}}


@pytest.mark.parametrize("value", [1, {"first": {}}, "3"])
def test_values_of_single_layers_that_are_not_numbered_are_refused(value: Any) -> None:
    config = {"model_type": "llama", "num_hidden_layers": LAYERS, "per_layer_config": value}
    with pytest.raises(UnsupportedModelError, match="no usable per_layer_config"):
        config_for_layers(config, Family(), KEPT, "a model")


@pytest.mark.parametrize(
    ("family", "field", "value", "expected"),
    [
        (Family(numbered=(("attn_layer_indices", 0),)), "attn_layer_indices", [1, 4, 7], [2, 4]),
        (Family(numbered=(("numbers", 1),)), "numbers", [1, 4, 8], [1, 5]),
        (Family(thresholds=(("num_dense_layers", "below"),)), "num_dense_layers", 3, 2),
        (Family(thresholds=(("last", "above"),)), "last", 3, 2),
    ],
)
def test_numbers_and_counts_of_layers_follow_them(family: Family, field: str, value: Any, expected: Any) -> None:
    config = {"model_type": "llama", "num_hidden_layers": LAYERS, field: value}
    assert config_for_layers(config, family, KEPT, "a model")[field] == expected


def test_a_list_of_layers_numbers_that_is_not_known_is_refused() -> None:
    config = {"model_type": "llama", "num_hidden_layers": LAYERS, "ple_layer_ids": [1, 3]}
    with pytest.raises(UnsupportedModelError, match="ple_layer_ids, a list that may hold layers' numbers"):
        config_for_layers(config, Family(), KEPT, "a model")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_kv_shared_layers": 2, "hidden_size_per_layer_input": 0}, "its layers share key-value caches"),
        ({"hidden_size_per_layer_input": 16}, "its layers have columns of one embedding"),
        ({}, "its layers have columns of one embedding"),  # the class's own default
    ],
)
def test_layers_that_hang_together_are_refused_for_what_joins_them(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        known_family({"model_type": "gemma4_text", **values}, "a model")


def test_an_older_name_of_a_list_follows_it() -> None:
    family = known_family({"model_type": "minimax_m3_vl_text"}, "a model")
    assert family is not None
    frequencies = [0, 0, 0, 1, 1, 0, 1, 1]
    config = {"model_type": "minimax_m3_vl_text", "num_hidden_layers": LAYERS, "moe_layer_freq": frequencies}
    made = config_for_layers(config, family, KEPT, "a model")
    assert made["moe_layer_freq"] == [frequencies[layer] for layer in KEPT]
    assert made["mlp_layer_types"] == ["sparse" if each else "dense" for each in made["moe_layer_freq"]]


def test_layers_that_could_hang_together_and_do_not_are_moved() -> None:
    alone = {"num_kv_shared_layers": 0, "hidden_size_per_layer_input": 0}
    assert known_family({"model_type": "gemma4_text", **alone}, "a model") is FAMILIES["gemma4_text"]


def test_a_class_that_decides_on_the_last_layer_keeps_it() -> None:
    types = ["full_attention", "sliding_attention"] * (LAYERS // 2 - 1) + ["sliding_attention", "full_attention"]
    config = {"model_type": "gemma4_text", "num_hidden_layers": LAYERS, "layer_types": types}
    made = config_for_layers(config, FAMILIES["gemma4_text"], KEPT, "a model")
    assert made["layer_types"] == [types[layer] for layer in KEPT]
    with pytest.raises(UnsupportedModelError, match="and layer 6 is one of sliding_attention: keep the last layer"):
        config_for_layers(config, FAMILIES["gemma4_text"], (0, 1, 3, 6), "a model")


def test_infinity_is_read_as_transformers_reads_it() -> None:
    config = {"model_type": "mamba2", "time_step_limit": [0.0, {"__float__": "Infinity"}]}
    assert list(as_transformers_config(config).time_step_limit) == [0.0, math.inf]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_what_transformers_keeps_in_float32_is_not_rounded(dtype: str, tmp_path: Path) -> None:
    teacher, _ = save_pair(tmp_path, "gpt_oss")
    init_student(teacher, output=tmp_path / "model", dtype=dtype)
    loaded = AutoModelForCausalLM.from_pretrained(teacher, dtype=getattr(torch, dtype))
    expected = {name for name, parameter in loaded.named_parameters() if parameter.dtype == torch.float32}
    assert bool(expected) == (dtype == "float16")
    with safe_open(tmp_path / "model" / "model.safetensors", framework="pt") as opened:
        wide = {name for name in opened.keys() if opened.get_slice(name).get_dtype() == "F32"}  # noqa: SIM118
    assert {name.split(".", 3)[-1] for name in wide} == {name.split(".", 3)[-1] for name in expected}
    load(tmp_path / "model")


def test_lists_of_sizes_need_not_be_as_long_in_both_models(tmp_path: Path) -> None:
    teacher, student = save_pair(tmp_path, "llama")
    edit_json(teacher / "config.json", intermediate_size=[48, 48, 48])
    edit_json(student / "config.json", intermediate_size=[48])
    assert patch(layers=1, student=student, output=tmp_path / "model", dry_run=True).layers == 1


def test_more_rows_than_tokens_are_read_where_the_class_has_them(tmp_path: Path) -> None:
    teacher, _ = save_pair(tmp_path, "llama")
    edit_json(teacher / "config.json", vocab_size=60)
    checkpoint = read_checkpoint(teacher)
    assert len(take_apart(checkpoint, replace(FAMILIES["llama"], more_rows=True)).layers) == LAYERS
    with pytest.raises(CheckpointError, match="vocab_size 60"):
        take_apart(checkpoint, FAMILIES["llama"])


def test_a_type_that_never_ties_is_refused_where_its_config_says_tied(tmp_path: Path) -> None:
    teacher, _ = save_pair(tmp_path, "llama", tie_word_embeddings=True)
    with pytest.raises(UnsupportedModelError, match="no llama model is tied"):
        take_apart(read_checkpoint(teacher), replace(FAMILIES["llama"], ties=False))
