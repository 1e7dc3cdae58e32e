"""Two processes on the CPU, over gloo: the same training as in one, with both models split."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import training as small

from boomerang_cli.engine.distillation.launch import launch
from boomerang_cli.engine.errors import TrainingError

# Each process trains the models of training.py, and rank 0 writes down what it saw.
SCRIPT = """
import json, sys
from dataclasses import replace
from pathlib import Path
import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
import training as small
from boomerang_cli.engine.distillation import sharding
from boomerang_cli.engine.distillation import training_folder
from boomerang_cli.engine.distillation import training_state
from boomerang_cli.engine.distillation.arguments import training_arguments
from boomerang_cli.engine.models.hidden_states import decoder_layers
from boomerang_cli.engine.distillation.training_folder import TrainingFolder

def main():
    folder, micro, resume = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "resume"
    options = json.loads(sys.argv[4])
    torch.set_num_threads(1)
    recipe = replace(small.RECIPE, **options)
    device = training_arguments(recipe, folder).device  # connects the processes
    make = small.tied_llama if "tied" in sys.argv else small.neox
    student, teacher = make(3), make(4)
    if sharding.is_distributed():
        for model in (student, teacher.requires_grad_(False)):
            sharding.shard(model, decoder_layers(model), device)
        student._is_distributed_loading_by_transformers = True
    sequences = torch.arange(5 * 8).reshape(5, 8) % small.VOCABULARY
    progress, checkpoint, text = {}, None, None
    if resume:
        checkpoint = TrainingFolder(folder).newest()
        progress = training_folder.read_progress(checkpoint)
        text = small.Sequences(start=progress["position"][0])
    trainer = small.make_trainer(
        folder, recipe, models=(student, teacher), micro_batch_size=micro, evaluation=sequences, save_every=2, text=text
    )
    if "stop" in sys.argv:
        trainer.on_progress = lambda progress: setattr(trainer.interrupts, "requested", progress.step == 1)
    seen = {}
    def look(when):
        return lambda layer, *_: seen.update({when: type(next(layer.parameters())).__name__})
    decoder_layers(teacher)[0].register_forward_pre_hook(look("in_forward"))
    decoder_layers(teacher)[0].register_forward_hook(look("after_forward"))
    trainer.go_on(checkpoint, progress)
    state = [v for s in trainer._plain_optimizer().state.values() for k, v in s.items() if k == "exp_avg"]
    tensors = training_state.gather_tensors(student, trainer._plain_optimizer())
    if sharding.rank() == 0:
        seen |= {
            "log": trainer.state.log_history,
            "units": [isinstance(layer, FSDPModule) for m in (student, teacher) for layer in decoder_layers(m)],
            "split": [isinstance(p, DTensor) for m in (student, teacher) for p in m.parameters()],
            "split_state": [isinstance(tensor, DTensor) for tensor in state],
            "interrupted": trainer.interrupted,
        }
        (folder / "seen.json").write_text(json.dumps(seen))
        torch.save(tensors["model"], folder / "weights.pt")

if __name__ == "__main__":  # a process that reads the text imports this file
    main()
"""


def train(folder: Path, processes: int, *words: str, micro_batch_size: int = 1, **recipe: Any) -> dict[str, Any]:
    script = folder / "script.py"
    folder.mkdir(exist_ok=True)
    script.write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    tests = Path(small.__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}", "OMP_NUM_THREADS": "1"}
    order = [*launcher, str(script), str(folder), str(micro_batch_size), *(words or ("new",))]
    order.insert(len(launcher) + 4, json.dumps(recipe))
    done = subprocess.run([sys.executable, *order], env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    seen: dict[str, Any] = json.loads((folder / "seen.json").read_text())
    seen["weights"] = torch.load(folder / "weights.pt", weights_only=True)
    return seen


def values(seen: dict[str, Any], key: str) -> list[float]:
    return [record[key] for record in seen["log"] if key in record]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train(tmp_path_factory.mktemp("one"), 1, micro_batch_size=2)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train(tmp_path_factory.mktemp("two"), 2)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["loss", "cross_entropy", "kl", "cosine", "grad_norm", "learning_rate", "eval_loss"])
def test_two_processes_log_what_one_logs(one: dict[str, Any], two: dict[str, Any], key: str) -> None:
    assert len(values(one, key)) == (5 if key == "eval_loss" else 4)
    assert values(two, key) == pytest.approx(values(one, key), rel=1e-5)


@pytest.mark.slow
def test_two_processes_end_in_the_weights_of_one(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one["weights"].keys() == two["weights"].keys()
    for name, weight in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], weight, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_student_and_teacher_are_split_with_each_layer_a_unit(two: dict[str, Any]) -> None:
    assert two["units"] == [True] * (3 + 4)
    assert set(two["split"]) == {True}


@pytest.mark.slow
def test_a_layer_is_whole_only_while_it_runs(two: dict[str, Any]) -> None:
    assert (two["in_forward"], two["after_forward"]) == ("Parameter", "DTensor")


@pytest.mark.slow
def test_the_optimisers_moments_are_split(two: dict[str, Any]) -> None:
    assert two["split_state"]
    assert set(two["split_state"]) == {True}


@pytest.mark.slow
def test_a_run_of_two_stopped_after_a_step_goes_on_in_one(one: dict[str, Any], tmp_path: Path) -> None:
    assert train(tmp_path, 2, "new", "stop")["interrupted"]
    resumed = train(tmp_path, 1, "resume", micro_batch_size=2)
    assert values(resumed, "loss") == pytest.approx(values(one, "loss"), rel=1e-5)


@pytest.mark.slow
def test_tied_embeddings_are_one_parameter_in_two_processes_too(tmp_path: Path) -> None:
    alone = train(tmp_path / "one", 1, "new", "tied", micro_batch_size=2, steps=2)
    together = train(tmp_path / "two", 2, "new", "tied", steps=2)
    assert values(together, "loss") == pytest.approx(values(alone, "loss"), rel=1e-5)


def test_more_gpus_than_the_machine_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(TrainingError, match=f"--gpus 99, but this machine has {torch.cuda.device_count()}"):
        launch(["distill"], gpus=99)


def test_gpus_under_torchrun_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="--gpus 2 under torchrun"):
        launch(["distill"], gpus=2)
