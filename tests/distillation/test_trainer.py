"""The training loop: its mean, its schedule, its numbers, its checkpoints."""

from __future__ import annotations

import errno
import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from training import RECIPE, VOCABULARY, Sequences, make_trainer, neox
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from boomerang_cli.engine.checkpoint.tensors import read_header
from boomerang_cli.engine.distillation import micro_batch, training_folder
from boomerang_cli.engine.distillation.arguments import check_reporter
from boomerang_cli.engine.distillation.interrupts import Interrupts
from boomerang_cli.engine.distillation.progress import TrainingProgress
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.distillation.trainer import DistillationTrainer
from boomerang_cli.engine.distillation.training_folder import TrainingFolder
from boomerang_cli.engine.errors import DataError, TrainingError


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # the models are so small that threads only wait for one another


def logged(trainer: DistillationTrainer, key: str) -> list[float]:
    return [record[key] for record in trainer.state.log_history if key in record]


def test_losses_are_the_same_at_any_micro_batch_size(tmp_path: Path) -> None:
    losses = []
    for size in (1, 2, 4):
        trainer = make_trainer(tmp_path / str(size), micro_batch_size=size)
        trainer.train()
        losses.append(logged(trainer, "loss"))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] == pytest.approx(losses[2], rel=1e-5)


def test_total_is_the_weighted_sum_of_the_parts_logged_apart(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.train()
    parts = zip(*(logged(trainer, key) for key in ("cross_entropy", "kl", "cosine")), strict=True)
    assert logged(trainer, "loss") == pytest.approx([ce + 0.1 * kl + 2 * cosine for ce, kl, cosine in parts])


def test_a_part_that_is_switched_off_is_zero(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, replace(RECIPE, kl=False))
    trainer.train()
    assert set(logged(trainer, "kl")) == {0.0}


def test_learning_rate_warms_up_over_its_share_and_follows_the_cosine(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, replace(RECIPE, steps=8))
    trainer.train()
    cosine = [0.5 * (1 + math.cos(math.pi * done / 6)) for done in range(6)]
    assert logged(trainer, "learning_rate") == pytest.approx([0, 0.005, *(0.01 * value for value in cosine)])


def test_optimiser_is_adamw_with_the_recipes_numbers(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    optimizer = trainer.create_optimizer()
    assert isinstance(optimizer, torch.optim.AdamW)
    assert (optimizer.defaults["betas"], optimizer.defaults["eps"]) == ((0.9, 0.95), 1e-8)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1, 0.0}


def test_gradients_are_clipped_by_their_norm_over_the_whole_batch(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, replace(RECIPE, max_grad_norm=1e-9, weight_decay=0.0))
    before = trainer.student.get_output_embeddings().weight.detach().clone()
    trainer.train()
    # Adam divides by the gradient's size, but eps 1e-8 is larger than these gradients: hardly anything moves.
    assert (trainer.student.get_output_embeddings().weight - before).abs().max() < 1e-2 * RECIPE.learning_rate * 4


def test_losses_leave_the_device_only_when_something_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_at: list[int] = []
    trainer = make_trainer(tmp_path, replace(RECIPE, steps=6), micro_batch_size=1)
    trainer.args.logging_steps = 3
    add_up = trainer._sum_over_processes
    monkeypatch.setattr(
        trainer, "_sum_over_processes", lambda sums: (read_at.append(trainer.state.global_step), add_up(sums))[1]
    )
    trainer.train()
    assert read_at == [3, 6]


def test_evaluation_is_the_models_own_cross_entropy_and_its_perplexity(tmp_path: Path) -> None:
    sequences = torch.randint(VOCABULARY, (5, 8), generator=torch.Generator().manual_seed(7))
    trainer = make_trainer(tmp_path, evaluation=sequences)
    expected = trainer.student.eval()(sequences, labels=sequences).loss.item()
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert metrics["eval_perplexity"] == pytest.approx(math.exp(expected), rel=1e-5)


def test_dropout_of_the_students_configuration_is_not_applied(tmp_path: Path) -> None:
    def gpt2(layers: int, dropout: float) -> PreTrainedModel:
        torch.manual_seed(layers)
        return GPT2LMHeadModel(
            GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=layers, n_head=2, n_positions=16, resid_pdrop=dropout)
        )

    losses = []
    for dropout in (0.0, 0.5):
        trainer = make_trainer(tmp_path / str(dropout), models=(gpt2(3, dropout), gpt2(4, dropout)))
        trainer.train()
        losses.append(logged(trainer, "loss"))
    assert losses[0] == losses[1]


def test_a_resumed_run_ends_in_the_weights_and_the_log_of_an_unbroken_one(tmp_path: Path) -> None:
    unbroken = make_trainer(tmp_path / "unbroken")
    unbroken.train()
    interrupts = Interrupts()

    def interrupt(progress: TrainingProgress) -> None:
        interrupts.requested = progress.step == 1

    broken = make_trainer(tmp_path / "broken", interrupts=interrupts, on_progress=interrupt)
    broken.train()
    assert broken.interrupted
    checkpoint = broken.folder.newest()
    assert checkpoint is not None
    progress = training_folder.read_progress(checkpoint)
    resumed = make_trainer(tmp_path / "broken", text=Sequences(start=progress["position"][0]))
    resumed.go_on(checkpoint, progress)
    assert progress["step"] < RECIPE.steps
    assert logged(resumed, "loss") == logged(unbroken, "loss")
    for ours, theirs in zip(resumed.student.parameters(), unbroken.student.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_only_the_newest_checkpoint_is_kept_and_it_holds_no_teacher(tmp_path: Path) -> None:
    make_trainer(tmp_path, save_every=1).train()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]
    files = {path.name for path in (tmp_path / "checkpoint-4").iterdir()}
    assert files == {"training-00001-of-00001.safetensors", "training.json", "trainer_state.json", "progress.json"}
    tensors = read_header(tmp_path / "checkpoint-4" / "training-00001-of-00001.safetensors")
    weights = sum(tensor.parameters for name, tensor in tensors.items() if name.startswith("model/"))
    assert weights == sum(parameter.numel() for parameter in neox(3).parameters())


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path)
    folder.save(1, lambda path: None)

    def fail(path: Path) -> None:
        (path / "half").write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(TrainingError, match=r"step 2 could not be saved .*No space left.*checkpoint-1 with --resume"):
        folder.save(2, fail)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_a_full_disk_at_the_first_checkpoint_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = TrainingFolder(tmp_path / "student.training")
    with folder.held(), pytest.raises(TrainingError, match=r"No space left on device; nothing was saved before"):
        folder.save(1, fail)
    assert [*tmp_path.iterdir()] == []


def test_what_a_killed_save_left_is_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-2").mkdir()
    (tmp_path / "checkpoint-10.partial").mkdir()
    assert TrainingFolder(tmp_path).newest() == tmp_path / "checkpoint-2"


def test_a_loss_that_is_no_number_stops_with_step_and_last_good_checkpoint(tmp_path: Path) -> None:
    student = neox(3)
    trainer = make_trainer(tmp_path, models=(student, neox(4)), save_every=1)

    def poison(progress: TrainingProgress) -> None:
        if progress.step == 2:
            student.get_output_embeddings().weight.data.fill_(math.nan)

    trainer.on_progress = poison
    with pytest.raises(TrainingError, match=r"not finite at step 3 .*last good checkpoint is .*checkpoint-2"):
        trainer.train()


def test_text_that_ends_too_early_says_how_much_there_was(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, text=Sequences(stop=9))
    with pytest.raises(DataError, match=r"ended after 2 of 4 steps \(64 tokens of 128\).*--steps 2"):
        trainer.train()


def test_progress_names_the_step_the_parts_and_the_time_left(tmp_path: Path) -> None:
    seen: list[TrainingProgress] = []
    make_trainer(tmp_path, on_progress=seen.append).train()
    assert [progress.step for progress in seen] == [0, 1, 2, 3, 4]
    assert set(seen[-1].losses) == {"total", "cross_entropy", "kl", "cosine"}
    assert seen[-1].seconds_left == 0
    assert seen[-1].tokens_per_second > 0


def test_auto_takes_the_largest_divisor_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path, replace(RECIPE, batch_size=12))
    (phase,) = trainer.recipe.phases
    one = micro_batch._saved_bytes(partial(trainer._run_to_measure, phase), phase, trainer.args.device)
    state = 12 * sum(parameter.numel() for parameter in trainer.student.parameters())
    monkeypatch.setattr(micro_batch, "free_memory_bytes", lambda device: 2 * (5 * one + state) + 100)
    trainer.set_micro_batch_size("auto")
    assert trainer.micro_batch_sizes == (4,)


def test_auto_touches_neither_gradients_nor_random_state(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    state = torch.get_rng_state()
    trainer.set_micro_batch_size("auto")
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in trainer.student.parameters())


def test_auto_says_when_not_even_one_sequence_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro_batch, "free_memory_bytes", lambda device: 1)
    with pytest.raises(TrainingError, match="not even one sequence of 8 tokens fits"):
        make_trainer(tmp_path, micro_batch_size="auto")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "--steps 0 must be 1 or more"),
        ({"sequence_length": 1}, "--sequence-length 1"),
        ({"learning_rate": math.nan}, "--learning-rate nan"),
        ({"warmup_ratio": 1.5}, "--warmup-ratio 1.5"),
        ({"cross_entropy": False, "kl": False, "cosine": False}, "nothing to train on"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        Recipe(**values)


def test_a_batch_that_cannot_be_split_is_refused_with_its_numbers() -> None:
    with pytest.raises(TrainingError, match=r"--batch-size 10 cannot .*--micro-batch-size 4 on 2 processes \(8 seq"):
        Recipe(batch_size=10).phases[0].accumulation_steps(4, 2)


def test_another_recipe_is_refused_with_each_difference() -> None:
    saved = json.loads(json.dumps(RECIPE.as_json()))
    RECIPE.check_same(saved)
    with pytest.raises(TrainingError, match=r"--steps 9 \(was 4\), --seed 1 \(was 0\)"):
        replace(RECIPE, steps=9, seed=1).check_same(saved)


def test_a_tracker_that_is_not_installed_names_its_package() -> None:
    with pytest.raises(TrainingError, match="`pip install trackio`"):
        check_reporter("trackio")
