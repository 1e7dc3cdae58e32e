"""What programs with code of their own suppose of a model, from its configuration alone."""

from __future__ import annotations

from typing import Any

import pytest

from boomerang_cli.engine.checkpoint.readers import is_portable, misreaders

SLIDING, FULL = "sliding_attention", "full_attention"
GEMMA3 = {"model_type": "gemma3_text", "sliding_window": 512, "tie_word_embeddings": True}
SIX = [SLIDING] * 5 + [FULL]


def test_a_model_that_keeps_the_period_is_portable() -> None:
    assert misreaders({**GEMMA3, "layer_types": SIX * 2 + [SLIDING] * 2}) == {}


def test_programs_that_suppose_another_period_are_named() -> None:
    config = {**GEMMA3, "layer_types": [SLIDING, SLIDING, FULL]}
    assert misreaders(config) == {"every 6th layer is full_attention and no other": ("llama.cpp", "MLX LM")}
    assert not is_portable(config)


def test_a_program_that_reads_the_period_takes_the_one_of_the_configuration() -> None:
    config = {**GEMMA3, "layer_types": [SLIDING, SLIDING, FULL], "sliding_window_pattern": 3}
    assert misreaders(config) == {"every 6th layer is full_attention and no other": ("llama.cpp",)}


@pytest.mark.parametrize(
    ("model_type", "programs", "portable"),
    [
        ("gpt2", ("MLX LM", "SGLang"), False),
        ("gemma2", ("llama.cpp", "MLX LM", "SGLang", "vLLM"), False),
        ("gemma3_text", ("SGLang",), True),
        ("qwen3", (), True),
    ],
)
def test_heads_that_a_program_does_not_know_are_told(model_type: str, programs: Any, portable: bool) -> None:
    untied = {"model_type": model_type, "tie_word_embeddings": False}
    assert misreaders(untied).get("the head is the embedding matrix", ()) == programs
    assert is_portable(untied) == portable
    assert misreaders({**untied, "tie_word_embeddings": True}) == {}


def test_layers_without_positions_are_supposed_by_period_too() -> None:
    assert is_portable({"model_type": "smollm3", "no_rope_layers": [1, 1, 1, 0, 1, 1, 1, 0]})
    assert not is_portable({"model_type": "smollm3", "no_rope_layers": [1, 1, 0, 1]})


def test_a_scale_that_a_program_knows_by_the_depth_alone_is_told() -> None:
    gemma_27b = {
        **GEMMA3,
        "hidden_size": 5376,
        "num_attention_heads": 32,
        "head_dim": 128,
        "query_pre_attn_scalar": 168,
    }
    assert is_portable({**gemma_27b, "num_hidden_layers": 62, "layer_types": (SIX * 11)[:62]})
    assert not is_portable({**gemma_27b, "num_hidden_layers": 50, "layer_types": (SIX * 11)[:50]})
    gemma_1b = {**gemma_27b, "hidden_size": 1152, "num_attention_heads": 4, "head_dim": 256}
    assert is_portable({**gemma_1b, "query_pre_attn_scalar": 256, "num_hidden_layers": 6, "layer_types": SIX})


def test_windows_that_slide_at_one_depth_alone_are_told() -> None:
    types = ([SLIDING] * 3 + [FULL]) * 16
    exaone = {"model_type": "exaone4", "sliding_window": 4096}
    assert is_portable({**exaone, "num_hidden_layers": 64, "layer_types": types})
    assert not is_portable({**exaone, "num_hidden_layers": 32, "layer_types": types[:32]})
    assert is_portable({**exaone, "num_hidden_layers": 30, "layer_types": [FULL] * 30})


def test_the_text_model_of_a_multimodal_one_is_asked() -> None:
    text = {**GEMMA3, "layer_types": [FULL, SLIDING]}
    assert not is_portable({"model_type": "gemma3", "text_config": text})
