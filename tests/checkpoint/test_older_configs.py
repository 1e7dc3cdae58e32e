"""config.json as transformers 4 and mergekit wrote it: the result opens, and computes what its teacher's layers do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from family_proof import KEPT_SETS, save_teacher
from safetensors.torch import save_file
from spellings import check_respelled, read_tensors, rewrite_config
from tiny_types import DEPTH

from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.init_student import init_student

ONE = [(1, "last")]
Config = dict[str, Any]


def of_transformers_4(config: Config) -> Config:
    """Return a configuration as it was before `rope_parameters` and `dtype`."""
    old = {key: value for key, value in config.items() if key not in ("rope_parameters", "dtype")}
    rope = config.get("rope_parameters") or {}
    rope = rope.get("full_attention", rope)
    if "rope_theta" in rope:
        old |= {"rope_theta": rope["rope_theta"], "rope_scaling": None}
    if local := (config.get("rope_parameters") or {}).get("sliding_attention"):
        old["rope_local_base_freq"] = local["rope_theta"]
    if "partial_rotary_factor" in rope:
        old["partial_rotary_factor"] = rope["partial_rotary_factor"]
    return {**old, "torch_dtype": "float32", "transformers_version": "4.45.0"}


def with_values(**values: Any) -> Callable[[Config], Config]:
    """Return what sets fields, and takes those out that are to be None."""
    return lambda config: {key: each for key, each in {**config, **values}.items() if each is not None}


PLAIN = ["phi3", "granite", "stablelm", "olmo3"]
# Lists left out, and the rule for them by its old name.
RULES: dict[str, Callable[[Config], Config]] = {
    "gemma3_text": with_values(layer_types=None, _sliding_window_pattern=None, sliding_window_pattern=6),
    "cohere2": with_values(layer_types=None, _sliding_window_pattern=None, sliding_window_pattern=4),
    "smollm3": with_values(layer_types=None, no_rope_layer_interval=4, no_rope_layers=[1, 1, 1, 0, 1, 1, 1, 0]),
    "qwen3_5_text": with_values(layer_types=None, full_attention_interval=4),
}
# What stood in the list's place, or stands beside it.
LISTED: dict[str, Callable[[Config], Config]] = {
    "lfm2": with_values(layer_types=None, full_attn_idxs=[1, 2, 4, 7]),
    "bamba": with_values(layer_types=None),
    "nemotron_h": with_values(
        layers_block_type=None, layer_types=None, hybrid_override_pattern="M*E-M*E-", num_hidden_layers=DEPTH
    ),
    "exaone4": with_values(sliding_window_pattern="LLLG"),
    "minimax_m2": with_values(attn_type_list=[1] * DEPTH, num_mtp_modules=3),
    "hunyuan_v1_moe": with_values(num_shared_expert=[1] * DEPTH, moe_intermediate_size=[96] * DEPTH),
    "mamba": with_values(n_layer=DEPTH, d_model=64),
    "falcon": with_values(n_layer=DEPTH),
}


@pytest.mark.parametrize("model_type", PLAIN)
def test_a_configuration_of_transformers_4_is_followed(model_type: str, tmp_path: Path) -> None:
    def respell(folder: Path, _: Family) -> None:
        rewrite_config(folder, of_transformers_4)

    check_respelled(model_type, respell, tmp_path, models=ONE)


@pytest.mark.parametrize("model_type", RULES)
def test_a_schedule_by_a_rule_of_old_is_followed(model_type: str, tmp_path: Path) -> None:
    def respell(folder: Path, _: Family) -> None:
        rewrite_config(folder, lambda config: of_transformers_4(RULES[model_type](config)))

    check_respelled(model_type, respell, tmp_path, models=ONE, absent=["layer_types", "no_rope_layers"])


@pytest.mark.parametrize("model_type", LISTED)
def test_a_schedule_by_an_older_name_is_followed(model_type: str, tmp_path: Path) -> None:
    def respell(folder: Path, _: Family) -> None:
        rewrite_config(folder, LISTED[model_type])

    check_respelled(model_type, respell, tmp_path, models=ONE)


def test_how_many_experts_a_token_goes_to_follows_its_layers(tmp_path: Path) -> None:
    experts = [1, 2, 2, 1, 2, 1, 1, 2]
    check_respelled("hunyuan_v1_moe", lambda *_: None, tmp_path, models=ONE, moe_topk=experts)
    config = json.loads((tmp_path / "student-5" / "config.json").read_text())
    assert config["moe_topk"] == [experts[layer] for layer in KEPT_SETS[0]]


def test_both_names_of_the_dtype_say_what_is_written(tmp_path: Path) -> None:
    save_teacher("granite", tmp_path / "teacher")
    rewrite_config(tmp_path / "teacher", with_values(dtype="float32", torch_dtype="float32"))
    init_student(tmp_path / "teacher", output=tmp_path / "student", dtype="bfloat16")
    config = json.loads((tmp_path / "student" / "config.json").read_text())
    assert (config["dtype"], config["torch_dtype"]) == ("bfloat16", "bfloat16")


def of_mergekit(folder: Path, _: Family) -> None:
    """Write a model as mergekit's passthrough does: shards of its own numbering, an index that names its version."""
    tensors = read_tensors(folder)
    names = sorted(tensors)
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"mergekit_version": "0.1.3"}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "mergekit_config.yml").write_text("merge_method: passthrough\n")
    rewrite_config(folder, lambda config: {**of_transformers_4(config), "_name_or_path": "lab/first"})


@pytest.mark.parametrize("model_type", ["mistral"])
def test_a_merge_of_mergekit_is_a_teacher_like_any_other(model_type: str, tmp_path: Path) -> None:
    check_respelled(model_type, of_mergekit, tmp_path, models=ONE)
    assert not (tmp_path / "student-5" / "mergekit_config.yml").exists()
