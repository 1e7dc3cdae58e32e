"""What a model keeps of a text, by arithmetic, against the tensors of transformers' own caches."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny_models import FAMILIES as TINY
from tiny_models import make_config, make_model
from tiny_types import tiny_config, tiny_model
from transformers import DynamicCache, PreTrainedModel, StaticCache

from boomerang_cli.engine.checkpoint.cache_size import cache_bytes
from boomerang_cli.engine.checkpoint.family_table import known_family
from boomerang_cli.engine.errors import SelectionError, UnsupportedModelError

CONTEXT, BATCH = 24, 2
LLAMA = {
    "model_type": "llama", "num_hidden_layers": 28, "hidden_size": 3072, "num_attention_heads": 24,
    "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 131072,
}  # fmt: skip
"""Llama-3.2-3B's."""


def counted(config: dict[str, Any], *, context: int = CONTEXT, batch: int = BATCH, dtype_bytes: int = 2) -> int:
    family = known_family(config, "m")
    assert family is not None
    return cache_bytes(config, family, context=context, batch=batch, dtype_bytes=dtype_bytes, name="m")


def real(model: PreTrainedModel) -> int:
    """The bytes of a cache of ``CONTEXT`` tokens, after a pass over a few of them."""
    takes = inspect.signature(model.forward).parameters
    tokens = torch.randint(3, 60, (BATCH, 6))
    with torch.no_grad():
        if "cache_params" in takes:  # states alone, whatever the context
            cache: Any = DynamicCache(config=model.config)
            model(tokens, cache_params=cache, use_cache=True)
        else:
            cache = StaticCache(config=model.config, max_cache_len=CONTEXT)
            model(tokens, past_key_values=cache, use_cache=True)
    held = {each.data_ptr(): each for layer in cache.layers for each in tensors(vars(layer)) if each.numel() > 1}
    return sum(each.nbytes for each in held.values())


def tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors(each)


@pytest.mark.parametrize("model_type", TINY)
def test_a_family_of_the_table_keeps_what_is_counted(model_type: str) -> None:
    model = make_model(make_config(model_type), 1).to(torch.bfloat16)
    assert counted(json.loads(model.config.to_json_string(use_diff=False))) == real(model)


@pytest.mark.parametrize(
    "model_type",
    ["bamba", "falcon", "falcon_h1", "falcon_mamba", "gemma4_text", "glm_moe_dsa", "lfm2", "mamba2", "nemotron_h"],
)
def test_states_indexers_and_layers_of_several_sizes_are_counted(model_type: str) -> None:
    model = tiny_model(tiny_config(model_type), 1).to(torch.bfloat16)
    assert counted(json.loads(model.config.to_json_string(use_diff=False))) == real(model)


def test_sizes_of_single_layers_are_found_in_their_older_spelling() -> None:
    config = json.loads(tiny_config("gemma4_text").to_json_string(use_diff=False))
    older = {**config, "global_head_dim": 512}
    del older["per_layer_config"]
    assert counted(older) == counted(config)


def test_a_published_model_keeps_what_its_readers_say() -> None:
    assert counted(LLAMA, context=16384, batch=1) == 16384 * 114_688  # 112 KiB a token
    assert counted(LLAMA, context=1024, batch=4, dtype_bytes=4) == 4 * 2 * 1024 * 114_688


def test_a_window_that_is_not_used_is_none() -> None:
    moe = {**LLAMA, "model_type": "qwen3_moe", "sliding_window": 4096, "use_sliding_window": False,
           "mlp_only_layers": [], "decoder_sparse_step": 1}  # fmt: skip
    assert counted(moe, context=16384, batch=1) == 16384 * 114_688


def test_what_is_not_known_is_refused() -> None:
    config = json.loads(tiny_config("recurrent_gemma").to_json_string(use_diff=False))
    with pytest.raises(UnsupportedModelError, match=r"--memory cannot be: give --size or --params$"):
        counted(config)
    with pytest.raises(SelectionError, match=r"--context 131073 is more than m has positions for: give 131072 or"):
        counted(LLAMA, context=131073)


def test_plain_families_need_no_library() -> None:
    gpt_neox = {"model_type": "gpt_neox", "num_hidden_layers": 32, "hidden_size": 2560, "num_attention_heads": 32}
    code = (
        "import json, sys\n"
        "from boomerang_cli.engine.checkpoint.cache_size import cache_bytes\n"
        "from boomerang_cli.engine.checkpoint.families import FAMILIES\n"
        "for config in json.loads(sys.argv[1]):\n"
        "    family = FAMILIES[config['model_type']]\n"
        "    cache_bytes(config, family, context=64, batch=1, dtype_bytes=2, name='m')\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, json.dumps([LLAMA, gpt_neox])], check=True)
