"""Values of ``config.json`` that are not of the kind that they must be: said, not guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from files import edit_json
from tiny_models import save_pair

from boomerang_cli.engine.checkpoint.families import FAMILIES
from boomerang_cli.engine.checkpoint.layer_config import config_for_layers, is_dense, layer_lists, whole_number
from boomerang_cli.engine.errors import BoomerangError, UnsupportedModelError
from boomerang_cli.engine.patch import patch


@pytest.mark.parametrize("value", ["3", 3.0, True, -1, [3], {"a": 1}])
def test_a_number_that_is_not_whole_is_refused(value: Any) -> None:
    with pytest.raises(UnsupportedModelError, match="no usable first_k_dense_replace"):
        whole_number({"first_k_dense_replace": value}, "first_k_dense_replace", 0)


@pytest.mark.parametrize("value", [None, 0])
def test_null_and_nought_are_the_default(value: int | None) -> None:
    assert whole_number({"decoder_sparse_step": value}, "decoder_sparse_step", 1) == 1


def test_dense_layers_must_be_a_list() -> None:
    with pytest.raises(UnsupportedModelError, match="no usable mlp_only_layers: 5"):
        is_dense({"mlp_only_layers": 5}, 0)


@pytest.mark.parametrize("value", ["full", 5, [1], {}])
def test_a_list_a_layer_must_be_as_long_as_the_model_is_deep(value: Any) -> None:
    config = {"model_type": "smollm3", "num_hidden_layers": 4, "no_rope_layers": value}
    with pytest.raises(UnsupportedModelError, match=r"in config\.json must be a list of 4 values"):
        layer_lists(config, FAMILIES["smollm3"], "a model")


def test_what_makes_readers_fetch_code_stays_behind() -> None:
    code = {"auto_map": {"AutoConfig": "x.Y"}, "attn_implementation": "someone/kernel"}
    config = {"model_type": "llama", "num_hidden_layers": 4, **code, "experts_implementation": "eager"}
    made = config_for_layers(config, FAMILIES["llama"], [0, 2], "a model")
    assert made == {"model_type": "llama", "num_hidden_layers": 2, "experts_implementation": "eager"}


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("qwen3", {"tie_word_embeddings": "false"}, "no usable tie_word_embeddings: 'false'"),
        ("qwen3", {"max_window_layers": "5"}, "no usable max_window_layers: '5'"),
        ("deepseek_v3", {"num_nextn_predict_layers": [1]}, "no usable num_nextn_predict_layers"),
        ("qwen3_next", {"layer_types": None, "full_attention_interval": "4"}, "no usable full_attention_interval"),
        ("gpt_neox", {"num_hidden_layers": True}, "no usable num_hidden_layers: True"),
    ],
)
def test_patch_refuses_them_too(family: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    teacher, student = save_pair(tmp_path, family)
    edit_json(teacher / "config.json", **changes)
    with pytest.raises(BoomerangError, match=message):
        patch(layers=1, student=student, output=tmp_path / "model")
