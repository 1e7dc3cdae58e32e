"""Two phases: recipes that name them, a kill in each, and what a training tells of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from chats import draw_chats, make_chat_project, words, write_rows
from distilling import distil
from files import edit_json, names, tensor_bytes
from processes import Fork

from boomerang_cli.engine.distillation.phase import Phase
from boomerang_cli.engine.distillation.recipes import default_of, recipe_of
from boomerang_cli.engine.distillation.result import DistillResult
from boomerang_cli.engine.distillation.training_folder import PROGRESS
from boomerang_cli.engine.errors import TrainingError

# Recipes


def test_the_recipe_for_post_trained_teachers_is_the_papers() -> None:
    adapt = recipe_of("adapt")
    assert adapt.phases == (
        Phase("text", "", 240, 2048, 1024),
        Phase("sft", "sft-", 293, 4096, 1024, response_only=True),
    )
    assert (adapt.kl_weight, adapt.cosine_weight, adapt.learning_rate, adapt.warmup_ratio) == (0.1, 10.0, 3e-4, 0.01)
    assert 2 * adapt.positions(240) == pytest.approx(1e9, rel=0.01)  # half of a billion tokens, and more
    assert adapt.sft_data == ("nvidia/Llama-Nemotron-Post-Training-Dataset:SFT:math",)


def test_what_is_given_goes_before_the_recipe() -> None:
    given = {"steps": 3, "cosine_weight": 2.0, "sft_data": ["a.jsonl"], "sft_kl": False, "seed": None}
    recipe = recipe_of("adapt", **given)
    assert (recipe.steps, recipe.cosine_weight, recipe.sft_data, recipe.seed) == (3, 2.0, ("a.jsonl",), 0)
    assert [phase.kl for phase in recipe.phases] == [True, False]


def test_batches_of_conversations_are_those_of_text_unless_the_recipe_has_its_own() -> None:
    given: dict[str, Any] = {"batch_size": 8, "sequence_length": 32, "sft_data": ["a.jsonl"], "sft_steps": 5}
    for name, expected in {"paper": (8, 32), "adapt": (4096, 1024)}.items():
        phase = recipe_of(name, **given).phases[1]
        assert (phase.batch_size, phase.sequence_length) == expected


@pytest.mark.parametrize("given", [{"steps": 0}, {"sft_steps": 0}])
def test_a_phase_without_steps_is_none(given: dict[str, Any]) -> None:
    assert len(recipe_of("adapt", **given).phases) == 1


def test_help_shows_what_each_recipe_has() -> None:
    assert (default_of("steps"), default_of("seed")) == ("500; adapt: 240", "0")
    assert default_of("alignment") == "cosine; between: relative"


def test_steps_belong_to_the_phase_that_they_are_in() -> None:
    recipe = recipe_of("paper", steps=2, batch_size=1, sequence_length=4, sft_data=["x"], sft_steps=3)
    assert [recipe.phase_after(step) for step in range(6)] == [0, 0, 1, 1, 1, 1]
    assert [recipe.positions(step) for step in range(6)] == [0, 4, 8, 12, 16, 20]


# Resuming

CHAT: dict[str, Any] = {"steps": 4, "sft_steps": 4, "sft_sequence_length": 14, "micro_batch_size": 2, "repeat": True}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chat_project(tmp_path_factory.mktemp("made") / "project")


def train(folder: Path, **changes: Any) -> DistillResult:
    return distil(folder, **{**CHAT, "sft_data": [str(folder / "chats.jsonl")], **changes})


@pytest.fixture(scope="module")
def whole(made: Path) -> Path:
    train(made, output=made / "whole", eval_data=[str(made / "held-out.txt")])
    return made / "whole"


def train_and_be_killed(folder: Path, step: int) -> None:
    def kill(progress: Any) -> None:
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    train(folder, output=folder / f"killed-{step}", save_every=1, on_progress=kill,
          eval_data=[str(folder / "held-out.txt")])  # fmt: skip


@pytest.mark.parametrize("step", [3, 5, 7], ids=["text", "border", "sft"])
def test_a_training_killed_in_either_phase_or_at_the_border_goes_on_bit_for_bit(
    made: Path, whole: Path, step: int
) -> None:
    process = Fork(train_and_be_killed, made, step)
    assert process.communicate(60) == ("", "")
    assert process.returncode == -signal.SIGKILL
    folder = made / f"killed-{step}"
    assert names(folder.with_name(f"{folder.name}.training")) == [f"checkpoint-{step - 1}"]
    result = train(folder.parent, output=folder, resume=True, eval_data=[str(made / "held-out.txt")])
    assert tensor_bytes(folder) == tensor_bytes(whole)
    logs = [(each / "metrics.jsonl").read_text().splitlines() for each in (folder, whole)]
    keys = ("loss", "tokens", "learning_rate", "eval_loss")
    ours, theirs = ([[json.loads(line).get(key) for key in keys] for line in log] for log in logs)
    assert ours == theirs
    assert result.phases == json.loads((whole / "student_config.json").read_text())["distillation"]["phases"]


@pytest.fixture(scope="module")
def broken_off(made: Path) -> Path:
    """A project whose training was broken off in its second phase."""

    def stop(progress: Any) -> None:
        if progress.step == 6:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(made, save_every=1, on_progress=stop)
    return made


@pytest.fixture
def broken(broken_off: Path, tmp_path: Path) -> Path:
    """The same project in another place."""
    folder = Path(shutil.copytree(broken_off, tmp_path / "moved"))
    edit_json(folder / "student-init" / "student_config.json", teacher=str(folder / "teacher"))
    return folder


def test_other_conversations_or_another_recipe_are_refused(broken: Path) -> None:
    with pytest.raises(TrainingError, match=r"another recipe: --sft-steps 9 \(was 4\)"):
        train(broken, resume=True, sft_steps=9)
    write_rows(broken / "chats.jsonl", draw_chats(41))
    with pytest.raises(TrainingError, match="had another text: other --sft-data;"):
        train(broken, resume=True)
    assert names(broken / "student.training") == ["checkpoint-5"]


def test_a_training_of_a_version_without_phases_is_refused(broken: Path) -> None:
    path = broken / "student.training" / "checkpoint-5" / PROGRESS
    saved = json.loads(path.read_text())
    del saved["phases"]
    path.write_text(json.dumps(saved))
    with pytest.raises(TrainingError, match="begun by a version that wrote other checkpoints"):
        train(broken, resume=True)


# Results


def test_the_result_tells_of_each_phase_and_the_last_losses_are_of_the_last(made: Path) -> None:
    result = train(made, output=made / "told", sft_kl=False)
    text, sft = result.phases
    assert text == {"name": "text", "steps": 4, "tokens": 256, "counted_tokens": 256}
    assert (sft["name"], sft["steps"], sft["rows_left_out"]) == ("sft", 4, 0)
    assert 0 < sft["counted_tokens"] < sft["tokens"] < 4 * 4 * 14
    assert (result.steps, result.tokens) == (8, 256 + sft["tokens"])
    assert result.losses["kl"] == 0 < result.losses["cosine"]


def test_conversations_alone_can_be_trained_on_and_what_was_cut_is_told(made: Path) -> None:
    write_rows(made / "long.jsonl", [{"prompt": "w3", "completion": words(*range(3, 30))}] * 16)
    notes: list[str] = []
    alone: dict[str, Any] = {"steps": 0, "data": None, "output": made / "alone", "on_note": notes.append}
    result = train(made, **alone, sft_data=[str(made / "long.jsonl")], eval_data=[str(made / "held-out.txt")])
    assert [phase["name"] for phase in result.phases] == ["sft"]
    assert result.eval["perplexity"] > 1
    assert notes == ["--sft-sequence-length 14: of the conversations 16 were cut to that length"]
