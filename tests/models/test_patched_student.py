"""Models in between that run the pair's own layers: the numbers of the composed model, whatever a family hands on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import KEPT, LAYERS, layers_of, save_pair, text
from transformers import PreTrainedModel

from boomerang_cli.engine.models.compose import LoadedPair, compose, load_pair
from boomerang_cli.engine.models.patched_student import PatchedStudents
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.pair import open_pair

LAYER_MAP = LayerMap(LAYERS, KEPT)
SETS = [(0,), (1,), (3,), (0, 3)]
# Experts, layers of several kinds with masks and rotary embeddings of their own, projections before and after.
FAMILIES = ["mixtral", "qwen3_next", "gemma3_text", "smollm3", "gpt_oss", "deepseek_v3", "gpt2", "opt"]


def open_models(folder: Path, family: str) -> LoadedPair:
    return load_pair(open_pair(save_pair(folder, family)[1]), dtype=torch.float32)


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(text(), use_cache=False).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_a_patched_student_gives_the_logits_of_the_composed_model(family: str, tmp_path: Path) -> None:
    loaded = open_models(tmp_path, family)
    students = PatchedStudents(loaded)
    for blocks in SETS:
        expected = logits(compose(loaded, LAYER_MAP.sources(blocks)))
        torch.testing.assert_close(logits(students.model(blocks)), expected, rtol=0, atol=1e-6)


def test_what_was_trained_meanwhile_is_in_the_model_that_was_made_before(tmp_path: Path) -> None:
    loaded = open_models(tmp_path, "llama")
    student, students = loaded.models["student"], PatchedStudents(loaded)
    before = logits(students.model((1,)))
    student.get_output_embeddings().weight.data.mul_(2)
    torch.testing.assert_close(logits(students.model((1,))), 2 * before)
    student.set_output_embeddings(torch.nn.Linear(32, 64, bias=False))  # another tensor, as a whole one is of a split
    expected = logits(compose(loaded, LAYER_MAP.sources((1,))))
    torch.testing.assert_close(logits(students.model((1,))), expected)


def test_layers_stay_modules_of_the_pair(tmp_path: Path) -> None:
    loaded = open_models(tmp_path, "llama")
    before = {owner: [*layers_of(model)] for owner, model in loaded.models.items()}
    PatchedStudents(loaded).model((0,))
    assert {owner: [*layers_of(model)] for owner, model in loaded.models.items()} == before
