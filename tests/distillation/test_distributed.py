"""Two processes on the CPU, over gloo: the same training as in one, with both models split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import training as small
from files import names
from processes import in_two_processes
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from boomerang_cli.engine.distillation import parts, sharding, training_folder
from boomerang_cli.engine.distillation.arguments import training_arguments
from boomerang_cli.engine.distillation.levers import Levers
from boomerang_cli.engine.distillation.trainer import DistillationTrainer
from boomerang_cli.engine.distillation.training_folder import TrainingFolder
from boomerang_cli.engine.errors import ProcessError, TrainingError
from boomerang_cli.engine.models.hidden_states import decoder_layers
from boomerang_cli.engine.processes.group import is_distributed, rank
from boomerang_cli.engine.processes.launch import launch

PLAIN = Levers()


def train(
    folder: Path,
    micro_batch_size: int,
    make: Callable[[int], PreTrainedModel] = small.neox,
    *,
    stop: bool = False,
    resume: bool = False,
    levers: Levers = PLAIN,
    **recipe: Any,
) -> dict[str, Any]:
    """Train in this process, which may be one of several, and return what was seen there."""
    torch.set_num_threads(1)
    changed = replace(small.RECIPE, **recipe)
    device = training_arguments(changed, folder).device  # connects the processes
    student, teacher = make(3), make(4)
    if is_distributed():
        for model in (student, teacher.requires_grad_(False)):
            sharding.shard(model, decoder_layers(model), device, offload=levers.offload and model is student)
        student._is_distributed_loading_by_transformers = True
    levers.pull(student, teacher, small.LAYER_MAP)
    checkpoint = TrainingFolder(folder).newest() if resume else None
    progress = training_folder.read_progress(checkpoint) if checkpoint else {}
    trainer = small.make_trainer(
        folder,
        changed,
        models=(student, teacher),
        micro_batch_size=micro_batch_size,
        evaluation=torch.arange(5 * 8).reshape(5, 8) % small.VOCABULARY,
        save_every=2,
        text=small.Sequences(start=progress["position"][0] if progress else 0),
    )
    if is_distributed():
        trainer.args.dataloader_num_workers = 0  # a third process would import all; test_cli_distill.py has it
    if stop:
        trainer.on_progress = lambda progress: setattr(trainer.interrupts, "requested", progress.step == 1)
    seen = watch_first_layer(teacher)
    trainer.go_on(checkpoint, progress)
    return seen | what_it_holds(trainer, student, teacher)


def watch_first_layer(model: PreTrainedModel) -> dict[str, Any]:
    """Return the type of the first layer's parameters while it runs and after, once it has run."""
    seen: dict[str, Any] = {}

    def look(when: str) -> Callable[..., None]:
        return lambda layer, *_: seen.update({when: type(next(layer.parameters())).__name__})

    decoder_layers(model)[0].register_forward_pre_hook(look("in_forward"))
    decoder_layers(model)[0].register_forward_hook(look("after_forward"))
    return seen


def what_it_holds(trainer: DistillationTrainer, *models: PreTrainedModel) -> dict[str, Any]:
    optimizer = trainer._plain_optimizer()
    moments = [value for state in optimizer.state.values() for key, value in state.items() if key == "exp_avg"]
    return {
        "log": trainer.state.log_history,
        "interrupted": trainer.interrupted,
        "units": [isinstance(layer, FSDPModule) for model in models for layer in decoder_layers(model)],
        "split": [isinstance(each, DTensor) for model in models for each in model.parameters()],
        "split_state": [isinstance(moment, DTensor) for moment in moments],
        "weights": small.whole_state(models[0]),
    }


def train_in_two(folder: Path, *words: Any, **options: Any) -> dict[str, Any]:
    """Train in two processes, and return what the first one saw."""
    in_two_processes(write_what_is_seen, folder, words, options)
    seen: dict[str, Any] = torch.load(folder / "seen.pt", weights_only=True)
    return seen


def write_what_is_seen(folder: Path, words: tuple[Any, ...], options: dict[str, Any]) -> None:
    seen = train(folder, 1, *words, **options)
    if rank() == 0:
        torch.save(seen, folder / "seen.pt")


def values(seen: dict[str, Any], key: str) -> list[float]:
    return [record[key] for record in seen["log"] if key in record]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train(tmp_path_factory.mktemp("one"), 2)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train_in_two(tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("key", ["loss", "cross_entropy", "kl", "cosine", "grad_norm", "learning_rate", "eval_loss"])
def test_two_processes_log_what_one_logs(one: dict[str, Any], two: dict[str, Any], key: str) -> None:
    assert len(values(one, key)) == (5 if key == "eval_loss" else 4)
    assert values(two, key) == pytest.approx(values(one, key), rel=1e-5)


def test_two_processes_end_in_the_weights_of_one(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one["weights"].keys() == two["weights"].keys()
    for name, weight in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], weight, rtol=1e-3, atol=1e-5)


def test_student_and_teacher_are_split_with_each_layer_a_unit(two: dict[str, Any]) -> None:
    assert two["units"] == [True] * (3 + 4)
    assert set(two["split"]) == {True}


def test_a_layer_is_whole_only_while_it_runs(two: dict[str, Any]) -> None:
    assert (two["in_forward"], two["after_forward"]) == ("Parameter", "DTensor")


def test_the_optimisers_moments_are_split(two: dict[str, Any]) -> None:
    assert two["split_state"]
    assert set(two["split_state"]) == {True}


def test_a_run_of_two_stopped_after_a_step_goes_on_in_one(one: dict[str, Any], tmp_path: Path) -> None:
    assert train_in_two(tmp_path, stop=True)["interrupted"]
    resumed = train(tmp_path, 2, resume=True)
    assert values(resumed, "loss") == pytest.approx(values(one, "loss"), rel=1e-5)


@pytest.mark.parametrize("levers", [Levers(gradient_checkpointing=True), Levers(offload=True)], ids=str)
def test_levers_give_the_losses_and_weights_of_one_without_also_across_a_stop(
    levers: Levers, one: dict[str, Any], tmp_path: Path
) -> None:
    assert train_in_two(tmp_path, levers=levers, stop=True)["interrupted"]
    resumed = train_in_two(tmp_path, levers=levers, resume=True)
    assert values(resumed, "loss") == pytest.approx(values(one, "loss"), rel=1e-5)
    for name, weight in one["weights"].items():
        torch.testing.assert_close(resumed["weights"][name], weight, rtol=1e-3, atol=1e-5)


def test_a_run_of_two_goes_on_in_two_bit_for_bit(two: dict[str, Any], tmp_path: Path) -> None:
    train_in_two(tmp_path, stop=True)
    assert names(tmp_path / "checkpoint-2") == [
        "progress.json",
        "trainer_state.json",
        "training-00001-of-00002.safetensors",
        "training-00002-of-00002.safetensors",
        "training.json",
    ]
    resumed = train_in_two(tmp_path, resume=True)
    assert values(resumed, "loss") == values(two, "loss")
    assert all(torch.equal(resumed["weights"][name], weight) for name, weight in two["weights"].items())


def test_a_run_of_one_goes_on_in_two(one: dict[str, Any], tmp_path: Path) -> None:
    train(tmp_path, 2, stop=True)
    resumed = train_in_two(tmp_path, resume=True)
    assert values(resumed, "loss") == pytest.approx(values(one, "loss"), rel=1e-5)


def fill_disk_of_one(folder: Path) -> None:
    """Let process 1 meet a full disk at its second checkpoint."""
    saves, write = [], parts.write_tensors

    def write_or_fail(path: Path, *content: Any) -> None:
        saves.append(path)
        if rank() == 1 and len(saves) == 2:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        write(path, *content)

    parts.write_tensors = write_or_fail
    message = (
        r"step 4 could not be saved in .*: process 1: No space left on device; go on from .*checkpoint-2 with --res"
    )
    with pytest.raises(TrainingError, match=message):
        train(folder, 1)


def test_a_full_disk_of_one_process_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    in_two_processes(fill_disk_of_one, tmp_path)
    assert names(tmp_path) == ["checkpoint-2"]
    assert len(names(tmp_path / "checkpoint-2")) == 5


def test_tied_embeddings_are_one_parameter_in_two_processes_too(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    alone = train(tmp_path / "one", 2, small.tied_llama, steps=2)
    together = train_in_two(tmp_path / "two", small.tied_llama, steps=2)
    assert values(together, "loss") == pytest.approx(values(alone, "loss"), rel=1e-5)


def test_more_gpus_than_the_machine_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ProcessError, match=f"--gpus 99, but this machine has {torch.cuda.device_count()}"):
        launch(["distill"], gpus=99)


def test_gpus_under_torchrun_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ProcessError, match="--gpus 2 under torchrun"):
        launch(["distill"], gpus=2)
