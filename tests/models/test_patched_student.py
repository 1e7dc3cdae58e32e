"""Models in between that run the pair's own layers: the numbers of the written ones, whatever a family hands on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from compute_proof import SCALED, check_patched, open_loaded
from family_proof import save_teacher
from tiny_models import layers_of, save_pair, text
from transformers import PreTrainedModel

from boomerang_cli.engine.models.compose import LoadedPair, compose, load_pair
from boomerang_cli.engine.models.patched_student import PatchedStudents
from boomerang_cli.engine.pair.pair import open_pair

# Experts, layers of several kinds with masks and rotary embeddings of their own, projections before and after the
# layers, parts that files name otherwise, layers that hand on tuples, two streams, a depth of another name.
TYPES = (
    "bailing_hybrid", "bart", "deepseek_v3", "falcon_h1", "gemma3_text", "gpt2", "gpt_oss", "hy_v4", "longcat_flash",
    "mixtral", "nemotron_h", "opt", "qwen3_next", "qwen4_exp_text", "smollm3",
)  # fmt: skip


def open_models(folder: Path, family: str) -> LoadedPair:
    return load_pair(open_pair(save_pair(folder, family)[1]), dtype=torch.float32)


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(text(), use_cache=False).logits


@pytest.mark.parametrize("model_type", TYPES)
def test_its_losses_and_gradients_are_those_of_the_written_folder(model_type: str, tmp_path: Path) -> None:
    save_teacher(model_type, tmp_path / "teacher", **SCALED.get(model_type, {}))
    check_patched(open_loaded(tmp_path / "teacher"))


def test_what_was_trained_meanwhile_is_in_the_model_that_was_made_before(tmp_path: Path) -> None:
    loaded = open_models(tmp_path, "llama")
    student, students = loaded.models["student"], PatchedStudents(loaded)
    before = logits(students.model((1,)))
    student.get_output_embeddings().weight.data.mul_(2)
    torch.testing.assert_close(logits(students.model((1,))), 2 * before)
    student.set_output_embeddings(torch.nn.Linear(32, 64, bias=False))  # another tensor, as a whole one is of a split
    expected = logits(compose(loaded, loaded.pair.layer_map.sources((1,))))
    torch.testing.assert_close(logits(students.model((1,))), expected)


def test_layers_stay_modules_of_the_pair(tmp_path: Path) -> None:
    loaded = open_models(tmp_path, "llama")
    before = {owner: [*layers_of(model)] for owner, model in loaded.models.items()}
    PatchedStudents(loaded).model((0,))
    assert {owner: [*layers_of(model)] for owner, model in loaded.models.items()} == before
