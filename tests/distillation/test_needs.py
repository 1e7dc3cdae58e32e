"""What a training needs, told beforehand: operations counted on a real step, memory that a real step takes."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from published import ADAPT, write_student, write_teacher
from tiny_models import save_pair
from torch.utils.flop_counter import FlopCounterMode

from boomerang_cli.engine import waiting
from boomerang_cli.engine.distillation.cost import ModelSize, flops_of
from boomerang_cli.engine.distillation.device import autocast
from boomerang_cli.engine.distillation.levers import Levers
from boomerang_cli.engine.distillation.losses import distillation_loss
from boomerang_cli.engine.distillation.measured_rate import measure_rate
from boomerang_cli.engine.distillation.memory_plan import MemoryPlan, StepMemory
from boomerang_cli.engine.distillation.needs import Needs, needs_of
from boomerang_cli.engine.distillation.phase import Phase
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.distillation.step_memory import StepOnNoMemory, rise_of
from boomerang_cli.engine.errors import ProcessError
from boomerang_cli.engine.models.compose import load_pair
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.pair.pair import Pair, open_pair
from boomerang_cli.engine.processes.machine import Machine

RECIPE = Recipe(steps=1, batch_size=1, sequence_length=32)
(PHASE,) = RECIPE.phases
H100 = Machine(8, 80 * 10**9, is_gpu=True)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    teacher, student = save_pair(folder, "gpt_neox")
    return open_pair(student, teacher)


@pytest.fixture(scope="module")
def qwen3_14b(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("published")
    published = next(each for each in ADAPT if each.teacher == "Qwen/Qwen3-14B")
    teacher, student = write_teacher(folder / "teacher", published), write_student(folder / "student", published)
    return open_pair(student, teacher, keep=published.layer_map.kept)


def step_of(pair: Pair, levers: Levers) -> tuple[Any, tuple[torch.nn.Module, ...]]:
    """Return a step that runs on real tensors, once gradients stand."""
    models = load_pair(pair, dtype=torch.float32).models
    student, teacher = models["student"], models["teacher"].requires_grad_(False)
    student.requires_grad_(True)
    levers.pull(student, teacher, pair.layer_map)
    for parameter in student.parameters():
        parameter.grad = torch.zeros_like(parameter)

    def step(sequences: int = 1) -> None:
        input_ids = torch.zeros(sequences, PHASE.sequence_length, dtype=torch.int64)
        distillation_loss(student, teacher, pair.layer_map, input_ids).total.backward()  # type: ignore[no-untyped-call]

    return step, (student, teacher)


# Operations


@pytest.mark.parametrize("checkpointing", [False, True])
def test_operations_are_those_that_torch_counts(pair: Pair, checkpointing: bool) -> None:
    student, teacher = (
        ModelSize.of(pair.parts[each], pair.config(each), pair.family) for each in ("student", "teacher")
    )
    step, _ = step_of(pair, Levers(gradient_checkpointing=checkpointing, attention="eager"))
    with FlopCounterMode(display=False) as counter:
        step()
    told = flops_of(PHASE, student, teacher, pair.layer_map, checkpointing=checkpointing).total
    # What the last layer made need not be made again, and nothing needs a gradient of the embedding's input.
    assert told == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_one_token_takes_six_a_trained_and_two_a_frozen_value() -> None:
    student, teacher = ModelSize((10, 10), 7, 18, 6, 0), ModelSize((10,) * 4, 7, 36, 6, 0)
    phase = Phase("text", "", 1, 1, 1)
    found = flops_of(phase, student, teacher, LayerMap(4, (0, 2))).as_json()
    assert found == {
        "total": 228, "student": 108, "teacher": 72, "attention": 0, "vocabulary": 48, "patched": 0, "recomputation": 0,
    }  # fmt: skip


def test_a_loss_on_the_text_alone_runs_no_teacher() -> None:
    size = ModelSize((10,), 7, 10, 6, 4)
    phase = Phase("text", "", 1, 1, 1, kl=False, cosine=False)
    assert flops_of(phase, size, size, LayerMap(1, (0,))).total == 6 * 10 + 6 * 6 + 3 * 4 * 4


def test_of_experts_the_chosen_ones_are_counted(tmp_path: Path) -> None:
    teacher, student = save_pair(tmp_path, "qwen3_moe")
    pair = open_pair(student, teacher)
    config = {**pair.config("teacher"), "num_experts": 8}
    few, more, most = (
        ModelSize.of(pair.parts["teacher"], {**config, "num_experts_per_tok": chosen}, pair.family)
        for chosen in (2, 4, 8)
    )
    assert few.parameters == most.parameters
    assert most.multiplied - more.multiplied == 2 * (more.multiplied - few.multiplied) > 0


# Memory


@pytest.mark.parametrize("levers", [Levers(), Levers(gradient_checkpointing=True), Levers(attention="eager")], ids=str)
def test_a_step_without_memory_holds_what_a_real_one_holds(pair: Pair, levers: Levers) -> None:
    step, models = step_of(pair, levers)
    held = StepOnNoMemory(pair, RECIPE, levers, on_gpu=False).memory(PHASE)
    assert not held.is_estimate
    for sequences in (1, 4):
        real = rise_of(lambda sequences=sequences: step(sequences), models)  # type: ignore[misc]
        assert held.fixed_bytes + sequences * held.sequence_bytes == pytest.approx(real, rel=0.15)


def test_checkpointing_holds_less_and_patched_steps_more(pair: Pair) -> None:
    def sequence_bytes(recipe: Recipe, levers: Levers) -> int:
        return StepOnNoMemory(pair, recipe, levers, on_gpu=False).memory(PHASE).sequence_bytes

    plain = sequence_bytes(RECIPE, Levers())
    assert sequence_bytes(RECIPE, Levers(gradient_checkpointing=True)) < plain / 2
    assert sequence_bytes(replace(RECIPE, patched_share=0.5), Levers()) > plain


def test_a_type_that_cannot_run_without_values_is_estimated(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("data-dependent")

    monkeypatch.setattr("boomerang_cli.engine.distillation.step_memory.distillation_loss", fail)
    held = StepOnNoMemory(pair, RECIPE, Levers(), on_gpu=True).memory(PHASE)
    assert held.is_estimate
    assert held.sequence_bytes > 0


SPLIT = MemoryPlan(ModelSize((100, 100), 50, 0, 0, 0), ModelSize((100,) * 4, 50, 0, 0, 0), 2, 8.0)
ROOTS = 4 * 50 + 2 * 50


def test_shares_shrink_with_processes_and_what_is_gathered_does_not() -> None:
    step = StepMemory(fixed_bytes=30, logits_chunk_bytes=10, sequence_bytes=300)
    alone, together = SPLIT.memory(step, 1, 2), SPLIT.memory(step, 5, 2)
    assert (alone.weights, alone.gradients, alone.optimizer, alone.teacher) == (1000, 1000, 2000, 900)
    assert (together.weights, together.gradients, together.optimizer, together.teacher) == (200, 200, 400, 180)
    assert (alone.gathered, together.gathered) == (0, ROOTS + 2 * 100 + 3 * 400)
    assert (alone.activations, alone.logits_chunk, alone.working) == (600, 10, 20)
    assert replace(SPLIT, offload=True).memory(step, 5, 2).weights == 0


def test_the_highest_moment_of_a_split_step_is_told() -> None:
    few = MemoryPlan(ModelSize((1, 1), 50, 0, 0, 0), ModelSize((1,) * 4, 50, 0, 0, 0), 2, 8.0)
    arriving = few.memory(StepMemory(fixed_bytes=3, logits_chunk_bytes=1, sequence_bytes=1), 5, 1)
    at_loss = SPLIT.memory(StepMemory(fixed_bytes=5000, logits_chunk_bytes=4000, sequence_bytes=1), 5, 1)
    assert (arriving.gathered, arriving.activations, arriving.working) == (2 * ROOTS, 0, 0)
    assert (at_loss.gathered, at_loss.logits_chunk, at_loss.working) == (ROOTS + 2 * 100 + 400, 4000, 1000)


def test_autocast_keeps_no_weights_and_changes_no_loss(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boomerang_cli.engine.distillation.device.has_bfloat16", lambda device: True)
    step, models = step_of(pair, Levers(gradient_checkpointing=True))

    def seen(context: Any) -> tuple[int, list[torch.Tensor]]:
        models[0].zero_grad(set_to_none=False)
        with context:
            rise = rise_of(step, models)
        return rise, [parameter.grad.clone() for parameter in models[0].parameters()]  # type: ignore[union-attr]

    kept, expected = seen(torch.autocast("cpu", dtype=torch.bfloat16))
    rise, found = seen(autocast(torch.device("cpu")))
    assert kept - rise > sum(each.numel() for each in models[0].parameters())
    assert all(map(torch.equal, found, expected))


def test_the_largest_micro_batch_divides_the_share_and_fits() -> None:
    plan = MemoryPlan(ModelSize((1,), 1, 0, 0, 0), ModelSize((1,), 1, 0, 0, 0), 2, 8.0)
    step = StepMemory(0, 0, 1000)
    assert plan.micro_batch_size(Phase("text", "", 1, 12, 8), step, 1, 10**4) == 6  # 8 fit, and do not divide 12
    assert plan.micro_batch_size(Phase("text", "", 1, 12, 8), step, 5, 10**4) == 0
    assert plan.first_fit(Phase("text", "", 1, 12, 8), step, 10) is None


def test_a_training_of_one_process_fits_on_no_number_of_small_gpus() -> None:
    ten_layers = ModelSize((100,) * 10, 0, 0, 0, 0)
    plan = MemoryPlan(ten_layers, ten_layers, 2, 8.0)  # 18 kB, 6 of them and two layers on each of three
    asked = (Phase("text", "", 1, 12, 8), StepMemory(0, 0, 1), 10_000)
    assert plan.first_fit(*asked) == 3
    assert replace(plan, at_most=1).first_fit(*asked) is None


# Plans


def test_a_rate_is_that_of_the_steps_that_were_taken(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(perf_counter=count().__next__)  # a second passes between two looks
    monkeypatch.setattr("boomerang_cli.engine.distillation.measured_rate.time", clock)
    rate = measure_rate(pair, replace(RECIPE, batch_size=2), Levers(), seconds=4)
    assert rate == pytest.approx(4 * 2 * RECIPE.sequence_length / 5)  # four seconds, and a last look


def test_measuring_tells_at_once_what_it_does(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(waiting, "on_wait", told.append)
    measure_rate(pair, replace(RECIPE, batch_size=2), Levers(), seconds=2.5)
    assert told[:3] == [
        f"loading {pair.student.name} and {pair.teacher.name} …",
        "measuring how many sequences fit at once …",
        "measuring text for 2 s, micro-batch size 2 …",
    ]
    assert told[3].startswith("measuring text for 2 s, micro-batch size 2, ")
    assert told[3].endswith(" tokens/s so far … (2 s)")


def test_the_published_14b_pair_is_planned_from_headers(qwen3_14b: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    held = StepMemory(fixed_bytes=22 * 10**9, logits_chunk_bytes=3 * 10**9, sequence_bytes=3 * 10**9)
    monkeypatch.setattr(StepOnNoMemory, "memory", lambda self, phase: held)  # it takes ten seconds
    recipe = Recipe(steps=438, batch_size=1024, sequence_length=4096)
    needs = needs_of(qwen3_14b, recipe, Levers(gradient_checkpointing=True), Machine(16, 141 * 10**9, True), 32_000.0)
    assert needs.fits
    assert needs.frozen_parameters == 14_768_307_200
    assert needs.tokens == 438 * 1024 * 4096
    assert needs.hours == pytest.approx(needs.tokens / 32_000 / 3600)
    assert needs.gpu_hours == pytest.approx(16 * needs.tokens / 32_000 / 3600)


@pytest.mark.parametrize(
    ("gpus", "memory", "message"),
    [(0, "80GB", "--gpus 0 must be 1 or more"), (4, None, "say with --gpu-memory 80GB how large they are")],
)
def test_a_machine_that_is_none_is_refused(gpus: int, memory: str | None, message: str) -> None:
    with pytest.raises(ProcessError, match=message):
        Machine.of(gpus, memory)


def test_this_machine_is_planned_for_by_default(pair: Pair) -> None:
    machine = Machine.of(None, None)
    needs: Needs = needs_of(pair, RECIPE, Levers(), machine, None)
    assert needs.fits
    assert (needs.gpus, needs.hours) == (1, None)
