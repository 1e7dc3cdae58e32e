"""``boomerang distill --dry-run`` tells what training needs; levers that cannot be pulled are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from distilling import RECIPE, make_project
from files import names
from running import assert_refused, run

from boomerang_cli.engine.distillation.memory_plan import StepMemory
from boomerang_cli.engine.distillation.step_memory import StepOnNoMemory

DISTILL = ("distill", "student-init", "--data", "train.txt", *RECIPE)
PLAN = (*DISTILL, "--dry-run", "--gpus", "2", "--gpu-memory", "80GB", "--tokens-per-second", "1000")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_project(tmp_path_factory.mktemp("project"))
    (folder / "short.txt").write_text("w3 w4")
    return folder


@pytest.fixture(autouse=True)
def _in_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr(StepOnNoMemory, "memory", lambda self, phase: StepMemory(2000, 1000, 500))  # it takes seconds


def test_a_plan_tells_parameters_operations_memory_and_hours(project: Path) -> None:
    before = names(project)
    shown = run(*PLAN).stdout
    assert "text: 6 steps of 4 x 16 tokens, 384 tokens in all\n" in shown
    assert "fits on 2 GPUs of 80.00 GB: micro-batch size 2\nfirst fits on 1 GPU\n" in shown
    assert all(part in shown for part in ("weights", "gradients", "optimizer", "teacher", "logits chunk", "peak"))
    assert "\ntime: 0 seconds at 1,000 tokens/s (" in shown
    assert "\ntime: 2.1 hours at 0 tokens/s (" in run(*PLAN, "--tokens-per-second", "0.05").stdout
    assert names(project) == before


def test_json_holds_the_plan_of_each_phase() -> None:
    needs = json.loads(run(*PLAN, "--json", "--quiet").stdout)["needs"]
    assert (needs["gpus"], needs["gpu_memory_bytes"], needs["device"], needs["tokens"]) == (2, 80 * 10**9, "gpu", 384)
    assert needs["hours"] == pytest.approx(384 / 1000 / 3600)
    (phase,) = needs["phases"]
    assert phase["peak_bytes"] == sum(phase["memory"].values())
    assert phase["flops"] == needs["flops"]


def test_a_measured_rate_is_that_of_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boomerang_cli.engine.distillation.dry_run.measure_rate", lambda *_: 500.0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert " seconds at 1,000 tokens/s (" in run(*PLAN[:-2], "--measure").stdout


def test_a_plan_is_for_the_micro_batch_size_that_is_given() -> None:
    assert "micro-batch size 1\n" in run(*PLAN, "--micro-batch-size", "1").stdout
    shown = run(*PLAN[:-4], "--gpu-memory", "10kB", "--micro-batch-size", "2").stdout
    assert "does not fit on 2 GPUs of 10.00 kB: 2 sequences take over nine tenths of it\n" in shown
    assert "text, 2 at once" in shown


def test_what_does_not_fit_is_said_with_how_many_gpus_it_takes() -> None:
    shown = run(*PLAN[:-4], "--gpu-memory", "1kB").stdout
    assert "does not fit on 2 GPUs of 1.00 kB: one sequence takes over nine tenths of it" in shown
    assert "fits on no number of such GPUs" in shown


def test_text_that_is_too_short_is_refused_by_a_plan_too() -> None:
    plan = (*DISTILL, "--dry-run", "--quiet")
    assert_refused(*plan, "--steps", "900", message=r"--data train\.txt holds [\d,]+ tokens: .* 3,600 are needed")
    assert_refused(*plan, "--eval-data", "short.txt", message=r"the evaluation text short\.txt holds 3 tokens")


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "a plan's option without a plan": (("--gpu-memory", "80GB"), r"--gpu-memory is for a plan: give --dry-run with it"),
    "a memory that is none": (("--dry-run", "--gpu-memory", "much"), r"--gpu-memory 'much' is not a size such as 4GB"),
    "a batch for other GPUs": (
        ("--dry-run", "--gpus", "3", "--gpu-memory", "80GB"),
        r"--batch-size 4 cannot be split into equal parts of --micro-batch-size 1 on 3 processes .* a multiple of 3",
    ),
    "parts that a batch does not have": (
        ("--dry-run", "--micro-batch-size", "3"),
        r"--batch-size 4 cannot be split into equal parts of --micro-batch-size 3: make it a multiple of 3",
    ),
    "two rates": (("--dry-run", "--measure", "--tokens-per-second", "3"), r"leave one of them out"),
    "code of the Hub": (("--attention", "somebody/kernel"), r"--attention somebody/kernel is code of the Hub"),
    "an unknown optimiser": (("--optimizer", "lion"), r"--optimizer lion is unknown: give one of adamw, adamw-8bit"),
    "offloading in a plan for one GPU": (
        ("--dry-run", "--gpu-memory", "80GB", "--offload"),
        r"--offload is FSDP2's, which one process does without: use --gpus 2 or more",
    ),
    "a CPU measured for GPUs": (
        ("--dry-run", "--gpu-memory", "80GB", "--measure"),
        r"--measure measures this machine, which has no GPU to plan for: give --tokens-per-second",
    ),
    "offloading from a CPU": (("--offload",), r"--offload moves the student out of a GPU's memory"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_one_line_and_leaves_nothing(project: Path, case: str) -> None:
    arguments, message = REFUSED[case]
    before = names(project)
    assert_refused(*DISTILL, "--quiet", *arguments, message=message)
    assert names(project) == before


def test_a_student_records_the_levers_that_it_was_trained_with(project: Path, tmp_path: Path) -> None:
    run(*DISTILL, "--quiet", "--gradient-checkpointing", "--attention", "eager", "-o", tmp_path / "student")
    recorded = json.loads((tmp_path / "student" / "student_config.json").read_text())["distillation"]
    assert recorded["levers"] == {
        "gradient_checkpointing": True, "optimizer": "adamw", "offload": False, "attention": "eager", "compile": False,
    }  # fmt: skip
