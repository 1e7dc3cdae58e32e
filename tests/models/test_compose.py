"""Models put together in memory: the logits of the written folder, over the pair's own weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import FAMILIES, KEPT, LAYERS, save_pair, text
from transformers import AutoModelForCausalLM, PreTrainedModel

from boomerang_cli.engine.evaluation.stages import Stages
from boomerang_cli.engine.models.compose import LoadedPair, compose, load_pair
from boomerang_cli.engine.pair.layers import LayerMap, LayerSource
from boomerang_cli.engine.pair.pair import open_pair
from boomerang_cli.engine.patch import patch

LAYER_MAP = LayerMap(LAYERS, KEPT)
SETS: list[tuple[int, ...]] = [(), (0,), (1,), (3,), (1, 3), (0, 1, 3)]
TIED = ["gemma2", "gemma3_text", "smollm3", "gpt2", "opt", "qwen3"]


@pytest.fixture(scope="module")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @cache
    def make(family: str) -> LoadedPair:
        folder = tmp_path_factory.mktemp(family)
        _, student = save_pair(folder, family)
        return load_pair(open_pair(student), dtype=torch.float32)

    return make


def written(loaded: LoadedPair, blocks: tuple[int, ...], folder: Path) -> PreTrainedModel:
    patch(blocks=blocks, student=loaded.pair.student.folder, output=folder)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(text(), use_cache=False).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_composed_model_gives_the_logits_of_the_written_folder(family: str, pair_of: Any, tmp_path: Path) -> None:
    loaded = pair_of(family)
    for blocks in SETS:
        composed = compose(loaded, LAYER_MAP.sources(blocks))
        torch.testing.assert_close(
            logits(composed), logits(written(loaded, blocks, tmp_path / str(blocks))), rtol=0, atol=1e-5
        )


def test_a_kind_of_layer_that_the_student_lost_runs_with_the_teachers_rotary_frequencies(tmp_path: Path) -> None:
    kinds = ["sliding_attention" if layer in KEPT else "full_attention" for layer in range(LAYERS)]
    _, student = save_pair(tmp_path, "gemma3_text", layer_types=kinds)
    loaded = load_pair(open_pair(student), dtype=torch.float32)
    composed = compose(loaded, LAYER_MAP.sources((0,)))
    torch.testing.assert_close(logits(composed), logits(written(loaded, (0,), tmp_path / "model")), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_run_one_by_one_give_the_logits_of_the_composed_model(family: str, pair_of: Any) -> None:
    loaded = pair_of(family)
    stages = Stages(loaded)
    with torch.no_grad():
        models = [(blocks, LAYER_MAP.steps(blocks)) for blocks in SETS]
        for leaf in stages.walk(models, stages.begin(text())):
            staged = stages.heads[leaf.owner].logits(leaf.hidden.flatten(0, 1))
            expected = logits(compose(loaded, LAYER_MAP.sources(leaf.label))).flatten(0, 1)
            torch.testing.assert_close(staged, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_composed_model_generates_the_same_with_a_cache_as_without(family: str, pair_of: Any) -> None:
    model = compose(pair_of(family), LAYER_MAP.sources((1, 3)))
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    prompt = text(rows=1, length=6)
    cached, plain = (model.generate(prompt, use_cache=use_cache, **settings) for use_cache in (True, False))
    assert cached.tolist() == plain.tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_composed_model_holds_no_tensor_of_its_own(family: str, pair_of: Any) -> None:
    loaded = pair_of(family)
    pointers = {
        tensor.data_ptr() for model in loaded.models.values() for tensor in [*model.parameters(), *model.buffers()]
    }
    model = compose(loaded, LAYER_MAP.sources((1,)))
    assert {tensor.data_ptr() for tensor in [*model.parameters(), *model.buffers()]} <= pointers


@pytest.mark.parametrize("family", TIED)
def test_tie_weights_leaves_a_model_of_two_owners_as_it_is(family: str, pair_of: Any) -> None:
    model = compose(pair_of(family), LAYER_MAP.sources((3,)))
    before = logits(model)
    model.tie_weights()
    assert torch.equal(logits(model), before)


def test_undistilled_layers_come_from_the_teacher_alone(pair_of: Any) -> None:
    loaded = pair_of("llama")
    model = compose(loaded, [LayerSource("teacher", layer, layer) for layer in KEPT])
    own = {tensor.data_ptr() for tensor in loaded.models["teacher"].parameters()}
    assert {tensor.data_ptr() for tensor in model.parameters()} <= own
