"""Levers: the same training in less memory, and what cannot be pulled is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import training as small
from transformers import PreTrainedModel

from boomerang_cli.engine.distillation import micro_batch, training_state
from boomerang_cli.engine.distillation.levers import Levers
from boomerang_cli.engine.distillation.losses import distillation_loss
from boomerang_cli.engine.errors import TrainingError

INPUT_IDS = torch.arange(32).reshape(4, 8)


def loss_and_gradients(levers: Levers, make: Any = small.neox) -> dict[str, torch.Tensor]:
    student, teacher = make(3).eval(), make(4).eval().requires_grad_(False)
    levers.pull(student, teacher, small.LAYER_MAP)
    total = distillation_loss(student, teacher, small.LAYER_MAP, INPUT_IDS).total
    total.backward()  # type: ignore[no-untyped-call]
    return {"total": total.detach(), **{name: each.grad for name, each in student.named_parameters()}}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], **tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **tolerance)


@pytest.mark.parametrize("make", [small.neox, small.tied_llama])
def test_checkpointing_gives_the_same_loss_and_gradients_bit_for_bit(make: Any) -> None:
    found, expected = loss_and_gradients(Levers(gradient_checkpointing=True), make), loss_and_gradients(Levers(), make)
    assert_same(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("make", [small.neox, small.tied_llama])
def test_eager_attention_gives_the_loss_and_gradients_of_sdpa_to_rounding(make: Any) -> None:
    found = loss_and_gradients(Levers(attention="eager"), make)
    assert_same(found, loss_and_gradients(Levers(attention="sdpa"), make), rtol=1e-4, atol=1e-6)


def test_eager_attention_is_what_both_models_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise AssertionError("sdpa ran")

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", fail)
    loss_and_gradients(Levers(attention="eager"))
    with pytest.raises(AssertionError, match="sdpa ran"):
        loss_and_gradients(Levers())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_layers_give_the_same_loss_and_gradients(checkpointing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: compile_(function, backend="aot_eager"))  # no C++ compiler
    found = loss_and_gradients(Levers(gradient_checkpointing=checkpointing, compile=True))
    assert_same(found, loss_and_gradients(Levers()), rtol=1e-4, atol=1e-6)


def test_checkpointing_runs_each_layer_twice_and_its_hooks_once() -> None:
    student, teacher = small.neox(3).eval(), small.neox(4).eval().requires_grad_(False)
    runs, hooks = [0], [0]
    layer = student.base_model.layers[1]
    forward = layer.forward
    layer.forward = lambda *args, **options: (runs.__setitem__(0, runs[0] + 1), forward(*args, **options))[1]
    layer.register_forward_pre_hook(lambda *_: hooks.__setitem__(0, hooks[0] + 1))
    Levers(gradient_checkpointing=True).pull(student, teacher, small.LAYER_MAP)
    distillation_loss(student, teacher, small.LAYER_MAP, INPUT_IDS).total.backward()  # type: ignore[no-untyped-call]
    assert (runs, hooks) == ([2], [1])


def test_checkpointing_keeps_less_and_auto_sees_it(tmp_path: Path) -> None:
    kept = {}
    for checkpointing in (False, True):
        trainer = small.make_trainer(tmp_path, models=pulled(gradient_checkpointing=checkpointing))
        (phase,) = small.RECIPE.phases
        run = lambda ids, trainer=trainer, phase=phase: trainer._run_to_measure(phase, ids)  # noqa: E731
        kept[checkpointing] = micro_batch._saved_bytes(run, phase, torch.device("cpu"))
    assert kept[True] < kept[False] / 2


def pulled(**levers: Any) -> tuple[PreTrainedModel, PreTrainedModel]:
    student, teacher = small.neox(3), small.neox(4).requires_grad_(False)
    Levers(**levers).pull(student, teacher, small.LAYER_MAP)
    return student, teacher


def test_a_checkpointed_run_logs_and_ends_as_one_without(tmp_path: Path) -> None:
    trainers = [
        small.make_trainer(tmp_path / str(checkpointing), models=pulled(gradient_checkpointing=checkpointing))
        for checkpointing in (False, True)
    ]
    for trainer in trainers:
        trainer.go_on(None, {})
    logs = [[record["loss"] for record in trainer.state.log_history if "loss" in record] for trainer in trainers]
    assert len(logs[0]) == small.RECIPE.steps
    assert logs[0] == logs[1]
    plain, checkpointed = (dict(trainer.student.named_parameters()) for trainer in trainers)
    assert_same(checkpointed, plain, rtol=0, atol=0)


# Refusals


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "optimizer": ({"optimizer": "sgd"}, r"--optimizer sgd is unknown: give one of adamw, adamw-8bit"),
    "code of the Hub": ({"attention": "kernels-community/x"}, r"--attention kernels-community/x is code of the Hub"),
    "attention": ({"attention": "flash"}, r"--attention flash is unknown: give one of eager, sdpa, "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_unknown_is_refused(case: str) -> None:
    levers, message = REFUSED[case]
    with pytest.raises(TrainingError, match=message):
        Levers(**levers)


@pytest.mark.parametrize(
    ("levers", "package", "message"),
    [
        ({"optimizer": "adamw-8bit"}, "torchao", r"`pip install 'boomerang-cli\[low-memory\]'`"),
        ({"attention": "flash_attention_2"}, "flash_attn", r"needs the package flash_attn, which is not installed"),
    ],
)
def test_a_missing_package_is_named(
    levers: dict[str, Any], package: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(TrainingError, match=message):
        Levers(**levers)


def test_a_model_that_cannot_be_checkpointed_is_refused() -> None:
    student = small.neox(3)
    student.supports_gradient_checkpointing = False
    with pytest.raises(TrainingError, match="GPTNeoXForCausalLM does not support it"):
        Levers(gradient_checkpointing=True).pull(student, small.neox(4), small.LAYER_MAP)


def test_offloading_from_a_cpu_or_in_one_process_is_refused() -> None:
    with pytest.raises(TrainingError, match="this training runs on the CPU"):
        Levers(offload=True).check_device(torch.device("cpu"))
    with pytest.raises(TrainingError, match="use --gpus 2 or more"):
        Levers(offload=True).check_device(torch.device("cuda"))


def test_another_optimisers_state_is_not_gone_on_with() -> None:
    with pytest.raises(TrainingError, match="had --optimizer adamw-8bit, not adamw"):
        Levers().check_same({"optimizer": "adamw-8bit"})
    Levers(gradient_checkpointing=True).check_same(Levers().as_json())
    Levers().check_same(None)  # of a version without levers


def test_moments_in_8_bits_are_for_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    levers = Levers(optimizer="adamw-8bit")
    levers.check_device(torch.device("cpu"))
    with pytest.raises(TrainingError, match="--optimizer adamw-8bit is for one process"):
        levers.check_device(torch.device("cuda"), processes=2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="--optimizer adamw-8bit is for one process"):
        levers.check_device(torch.device("cpu"))


class InEightBits(torch.Tensor):
    """What an optimiser may keep of a moment: codes and their scale."""

    codes: torch.Tensor
    scale: torch.Tensor

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["codes", "scale"], None


def test_a_moment_in_8_bits_is_saved_as_the_tensors_that_it_is_made_of() -> None:
    moment = torch.zeros(3).as_subclass(InEightBits)
    moment.codes, moment.scale = torch.ones(3, dtype=torch.uint8), torch.ones(1)
    state = {"state": {"weight": {"exp_avg": moment, "step": torch.ones(())}}}
    named = dict(training_state._optimizer_tensors(state))
    assert sorted(named) == [
        "optimizer/weight/exp_avg/codes",
        "optimizer/weight/exp_avg/scale",
        "optimizer/weight/step",
    ]
    assert named["optimizer/weight/exp_avg/codes"] is moment.codes
