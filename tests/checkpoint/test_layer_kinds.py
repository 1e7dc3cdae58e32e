"""Which layers of a teacher are of one kind, from ``config.json`` alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import transformers
from packaging.version import Version
from tiny_types import DEPTH, tiny_config, tiny_model
from transformers import CONFIG_MAPPING

from boomerang_cli.engine.checkpoint.class_config import as_transformers_config
from boomerang_cli.engine.checkpoint.families import FAMILIES, Family
from boomerang_cli.engine.checkpoint.family_table import known_family
from boomerang_cli.engine.checkpoint.layer_config import config_for_layers
from boomerang_cli.engine.checkpoint.layer_kinds import check_attention_kept, layer_kinds
from boomerang_cli.engine.errors import SelectionError

HYBRIDS: dict[str, dict[str, Any]] = {
    "gemma3_text": {},
    "gemma2": {},
    "gpt_oss": {},
    "qwen3_next": {},
    "smollm3": {"use_sliding_window": False},
}


@pytest.mark.parametrize("family", HYBRIDS)
def test_kinds_of_a_configuration_of_published_depth_are_the_classes(family: str) -> None:
    """Against the class of transformers, whose list is then left out of the file."""
    written = CONFIG_MAPPING[family](**HYBRIDS[family]).to_dict()
    types = written.pop("no_rope_layers" if family == "smollm3" else "layer_types")
    written = {key: value for key, value in written.items() if key != "layer_types"}
    kinds = layer_kinds(written, FAMILIES[family], "a model")
    assert list(kinds) == [each if isinstance(each, str) else f"no_rope_layers={each}" for each in types]
    assert len(kinds) == written["num_hidden_layers"]


def test_schedules_that_config_json_leaves_to_the_class_are_followed() -> None:
    config = {"model_type": "gemma3_text", "num_hidden_layers": 12}
    kinds = layer_kinds(config, FAMILIES["gemma3_text"], "a model")
    assert [layer for layer, kind in enumerate(kinds) if kind == "full_attention"] == [5, 11]


def test_a_kind_is_everything_that_differs_from_layer_to_layer() -> None:
    config = {
        "model_type": "qwen3_next",
        "num_hidden_layers": 4,
        "layer_types": ["linear_attention", "full_attention"] * 2,
        "mlp_only_layers": [0],
    }
    assert layer_kinds(config, FAMILIES["qwen3_next"], "a model") == (
        "linear_attention dense", "full_attention sparse", "linear_attention sparse", "full_attention sparse"
    )  # fmt: skip


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt_neox", "deepseek_v3"])
def test_layers_without_a_schedule_are_of_one_kind(family: str) -> None:
    config = {"model_type": family, "num_hidden_layers": 6, "first_k_dense_replace": 0}
    assert set(layer_kinds(config, FAMILIES[family], "a model")) == {""}


def test_a_teacher_of_linear_attention_alone_is_not_refused_for_it() -> None:
    config = {"model_type": "qwen3_next", "num_hidden_layers": 4, "layer_types": ["linear_attention"] * 4}
    check_attention_kept(config, FAMILIES["qwen3_next"], [0, 2], "a model")


def test_sliding_attention_is_attention() -> None:
    config = {
        "model_type": "qwen3_next",
        "num_hidden_layers": 2,
        "layer_types": ["linear_attention", "chunked_attention"],
    }
    with pytest.raises(SelectionError, match=r"hold no chunked_attention layer, .* give one of 1 in --keep"):
        check_attention_kept(config, FAMILIES["qwen3_next"], [0], "a model")
    check_attention_kept(config, FAMILIES["qwen3_next"], [0, 1], "a model")


@pytest.mark.parametrize(
    ("model_type", "schedule", "attending"),
    [
        ("nemotron_h", {"layers_block_type": ["mamba", "moe", "mlp", "attention"]}, [3]),
        ("recurrent_gemma", {"block_types": ["recurrent", "recurrent", "attention"]}, [2]),
        ("bamba", {"attn_layer_indices": [1]}, [1]),
        ("lfm2", {"layer_types": ["conv", "conv", "full_attention", "conv"], "full_attn_idxs": [2]}, [2]),
        ("granitemoehybrid", {"layer_types": ["mamba", "attention", "mamba", "mamba"]}, [1]),
    ],
)
def test_attention_is_known_by_whatever_says_where_it_is(
    model_type: str, schedule: dict[str, Any], attending: list[int]
) -> None:
    config = {"model_type": model_type, "num_hidden_layers": 4, **schedule}
    family = known_family(config, "a model")
    assert family is not None
    without = [layer for layer in range(4) if layer not in attending]
    with pytest.raises(SelectionError, match=rf"cannot generate: give one of {','.join(map(str, attending))} in"):
        check_attention_kept(config, family, without, "a model")
    check_attention_kept(config, family, range(4), "a model")


def test_a_type_that_cannot_be_made_of_attention_alone_keeps_another_layer() -> None:
    config = {"model_type": "olmo_hybrid", "num_hidden_layers": 3}
    config |= {"layer_types": ["full_attention", "linear_attention", "full_attention"]}
    family = known_family(config, "a model")
    assert family is not None
    with pytest.raises(SelectionError, match="hold no linear_attention layer, without which olmo_hybrid models cannot"):
        check_attention_kept(config, family, [0, 2], "a model")


@pytest.mark.parametrize("model_type", ["nemotron_h", "bamba", "recurrent_gemma", "lfm2"])
def test_transformers_cannot_generate_without_attention(model_type: str) -> None:
    """The reason for refusing it; once this fails, the refusal can go."""
    if model_type == "recurrent_gemma" and Version(transformers.__version__) < Version("5.23"):
        pytest.skip(f"transformers {transformers.__version__} generates with recurrent_gemma's old cache")
    config = json.loads(tiny_config(model_type).to_json_string())
    family = known_family(config, "a model")
    assert family is not None
    without = [layer for layer in range(DEPTH) if _is_refused(config, family, layer)]
    assert 0 < len(without) < DEPTH
    model = tiny_model(as_transformers_config(config_for_layers(config, family, without, "a model")), 1)
    with pytest.raises(ValueError, match="can only be called on Attention layers"):
        model.generate(torch.tensor([[3, 4]]), max_new_tokens=2, do_sample=False)


def _is_refused(config: dict[str, Any], family: Family, layer: int) -> bool:
    try:
        check_attention_kept(config, family, [layer], "a model")
    except SelectionError:
        return True
    return False


@pytest.mark.parametrize(
    ("model_type", "schedule", "kinds"),
    [
        ("bamba", {"attn_layer_indices": [1]}, ("mamba", "attention", "mamba")),
        ("lfm2", {"full_attn_idxs": [1], "layer_types": ["conv", "full_attention", "conv"]},
         ("conv", "full_attention", "conv")),
    ],
)  # fmt: skip
def test_kinds_have_names_and_what_is_said_twice_is_told_once(
    model_type: str, schedule: dict[str, Any], kinds: tuple[str, ...]
) -> None:
    family = known_family({"model_type": model_type}, "a model")
    assert family is not None
    config = {"model_type": model_type, "num_hidden_layers": 3, **schedule}
    assert layer_kinds(config, family, "a model") == kinds
