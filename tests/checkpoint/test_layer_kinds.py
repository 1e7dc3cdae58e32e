"""Which layers of a teacher are of one kind, from ``config.json`` alone."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from boomerang_cli.engine.checkpoint.families import FAMILIES
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
