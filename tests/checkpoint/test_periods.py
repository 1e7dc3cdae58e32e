"""Periods in ``config.json`` of other layers: right, or null, and never the teacher's where it no longer holds."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from boomerang_cli.engine.checkpoint.family_table import known_family
from boomerang_cli.engine.checkpoint.layer_config import config_for_layers

PERIODS: dict[str, dict[str, Any]] = {
    "gemma3_text": {"sliding_window_pattern": 6},
    "cohere2": {"sliding_window_pattern": 4},
    "qwen3_next": {"full_attention_interval": 4},
    "afmoe": {"global_attn_every_n_layers": 4},
    "olmo_hybrid": {},
    "modernbert-decoder": {"global_attn_every_n_layers": 3},
    "exaone4": {
        "sliding_window_pattern": "LLLG",
        "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"] * 6,
    },
    "smollm3": {"no_rope_layer_interval": 4},
    "llama4_text": {"no_rope_layer_interval": 4, "interleave_moe_layer_step": 2},
    "cohere2_moe": {"sliding_window_pattern": 4},
    "bailing_hybrid": {"layer_group_size": 6},
}


def resized(model_type: str, layers: list[int], **changes: Any) -> dict[str, Any]:
    """Return a teacher of 24 layers cut down to some of them, its lists as its class derives them."""
    config = {"model_type": model_type, "num_hidden_layers": 24, **PERIODS[model_type], **changes}
    family = known_family(config, "it")
    assert family is not None
    return config_for_layers(config, family, layers, "it")


def test_a_period_that_holds_stays() -> None:
    assert resized("gemma3_text", list(range(6, 24)))["sliding_window_pattern"] == 6
    assert resized("modernbert-decoder", list(range(12)))["global_attn_every_n_layers"] == 3
    assert resized("smollm3", list(range(8)))["no_rope_layer_interval"] == 4


def test_another_period_that_holds_takes_its_place() -> None:
    every_second = [layer for layer in range(24) if layer % 2]
    assert resized("gemma3_text", every_second)["sliding_window_pattern"] == 3
    assert resized("cohere2", every_second)["sliding_window_pattern"] == 2
    assert resized("smollm3", every_second)["no_rope_layer_interval"] == 2
    assert resized("llama4_text", every_second)["interleave_moe_layer_step"] == 1  # experts in each that is left
    assert resized("llama4_text", [0, 2, 4, 5, 6, 8])["interleave_moe_layer_step"] == 4
    assert resized("modernbert-decoder", [0, 1, 3, 4, 6, 7])["global_attn_every_n_layers"] == 2


def test_where_no_period_holds_who_reads_it_alone_fails() -> None:
    layers = [0, 3, 4, 5, 9, 11, 12, 23]
    assert resized("gemma3_text", layers)["sliding_window_pattern"] is None
    assert resized("qwen3_next", layers)["full_attention_interval"] is None
    assert "no_rope_layer_interval" not in resized("smollm3", layers)  # its class refuses null, and takes the list
    assert "interleave_moe_layer_step" not in resized("llama4_text", layers)
    assert "sliding_window_pattern" not in resized("cohere2_moe", layers)


def test_a_default_of_a_reader_that_is_wrong_is_overruled() -> None:
    types = (["sliding_attention"] * 5 + ["full_attention"]) * 4
    config = {"model_type": "gemma3_text", "num_hidden_layers": 24, "layer_types": types}
    family = known_family(config, "it")
    assert family is not None
    assert config_for_layers(config, family, [0, 3, 5, 6, 8, 11], "it")["sliding_window_pattern"] == 3
    assert "sliding_window_pattern" not in config_for_layers(config, family, range(6, 18), "it")


def test_a_field_that_layers_hold_stays_and_the_list_says_what_holds() -> None:
    config = resized("exaone4", [0, 3, 4, 5, 7, 23])
    assert config["sliding_window_pattern"] == "LLLG"
    assert [kind[0] for kind in config["layer_types"]] == ["s", "f", "s", "s", "f", "f"]


@pytest.mark.parametrize("model_type", PERIODS)
@pytest.mark.parametrize("layers", [[0, 3, 4, 5, 9, 11, 12, 23], [1, 3, 5, 7, 9, 11], [0, 1, 2, 3, 4]])
def test_transformers_takes_the_lists_whatever_stands_beside_them(model_type: str, layers: list[int]) -> None:
    config = resized(model_type, layers)
    read = CONFIG_MAPPING[model_type].from_dict(config)
    assert read.layer_types == config["layer_types"]
    assert all(getattr(read, field, None) == config.get(field) for field in ("no_rope_layers", "moe_layers"))
