"""However a distillation ends, all of its processes end with it, at once and with its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from distilling import RECIPE, make_project
from processes import MODULE, Fork, boomerang, start, torchrun, two_boomerangs, wait_for

from boomerang_cli.engine.distillation.training_folder import TrainingFolder
from boomerang_cli.engine.processes import launch

SECONDS = 20
"""A busy machine takes ten where a quiet one takes one; what still waits is ended by torchrun after 30."""
DISTILL = ("distill", *RECIPE, "--repeat", "--quiet")

# Process 1 alone fails, at its first loss.
ONE_FAILS = """
from boomerang_cli.cli.app import app
import os
from boomerang_cli.engine.distillation import batch_losses

def fail(*arguments, **options):
    raise KeyError("a fault of our own")

if __name__ == "__main__":
    if os.environ.get("RANK") in (None, "1"):
        batch_losses.distillation_loss = fail
    app(prog_name="boomerang")
"""

# Process 1 fails where process 0 waits for it without ever looking at a signal, as NCCL does.
ONE_WAITS = """
import signal, time
import torch.distributed
from boomerang_cli.engine.processes.failing_together import failing_together

torch.distributed.init_process_group("gloo")
with failing_together():
    if torch.distributed.get_rank() == 1:
        raise SystemError("a fault of our own")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(100)
"""


@pytest.fixture(scope="module", autouse=True)
def one_waits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fork]:
    """Started before all tests: most of its time it waits."""
    script = tmp_path_factory.mktemp("waits") / "one_waits.py"
    script.write_text(ONE_WAITS)
    process = torchrun(str(script))
    yield process
    process.kill()
    process.join()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_project(tmp_path)
    good = [json.dumps({"text": "w3 w4 w5 w6 " * 20})] * 50
    (tmp_path / "late.jsonl").write_text("\n".join([*good, "{broken"]))
    (tmp_path / "one_fails.py").write_text(ONE_FAILS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ending(process: subprocess.Popen[str] | Fork) -> tuple[list[str], float]:
    """Return the error lines, and the seconds from the first to the end of all who could have written another."""
    assert process.stderr
    lines: list[str] = []
    spoke = None
    while line := process.stderr.readline():  # its end comes when the last process that holds it has gone
        if line.startswith("error: "):
            lines.append(line.rstrip())
            spoke = spoke or time.monotonic()
    seconds = time.monotonic() - (spoke or time.monotonic())
    process.communicate()
    return lines, seconds


def test_after_an_error_the_process_and_the_one_that_reads_end(project: Path) -> None:
    process = start(*MODULE, *DISTILL, "--data", "late.jsonl")
    lines, seconds = ending(process)
    assert process.returncode == 1
    assert ["late.jsonl line 51 is not JSON" in line for line in lines] == [True], lines
    assert seconds < SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("which", ["text", "one process"])
def test_two_processes_end_together_with_one_line(project: Path, which: str) -> None:
    if which == "text":
        command = [*MODULE, *DISTILL, "--data", "late.jsonl"]
        process = Fork(lambda: sys.exit(launch.run_processes(command, 2)))
    else:
        process = torchrun("one_fails.py", *DISTILL, "--data", "train.txt")
    lines, seconds = ending(process)
    assert process.returncode == 1
    message = "late.jsonl line 51 is not JSON" if which == "text" else "KeyError: 'a fault of our own'"
    assert [message in line for line in lines] == [True], lines
    assert seconds < SECONDS


def test_a_killed_process_takes_the_one_that_reads_with_it(project: Path) -> None:
    process = boomerang(*DISTILL, "--data", "train.txt", "--steps", "100000", "--save-every", "1")
    wait_for(lambda: list(project.glob("student.training/checkpoint-*")), process)
    process.kill()
    _, errors = process.communicate(timeout=SECONDS)  # returns when nobody holds the other end
    assert (process.returncode, errors) == (-9, "")


def test_a_training_that_sigterm_ends_is_saved_and_has_its_exit_code(project: Path) -> None:
    process = boomerang(*DISTILL, "--data", "train.txt", "--steps", "100000", "--save-every", "1")
    wait_for(lambda: list(project.glob("student.training/checkpoint-*")), process)
    process.terminate()
    lines, _ = ending(process)
    assert ["saved in student.training/checkpoint-" in line for line in lines] == [True], lines
    assert process.returncode == 143


@pytest.mark.parametrize("which", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_when_one_process_is_killed_the_other_ends_with_one_line_and_the_run_goes_on(project: Path, which: int) -> None:
    both = two_boomerangs(*DISTILL, "--data", "train.txt", "--steps", "100000", "--save-every", "1")
    wait_for(lambda: list(project.glob("student.training/checkpoint-?")), both[1])
    both[which].kill()
    lines, seconds = ending(both[1 - which])
    assert [line.partition(":")[2].split(":")[0] for line in lines] == [
        " one of 2 processes was killed, or its machine was lost"
    ]
    assert (both[1 - which].returncode, seconds < SECONDS) == (1, True)
    reached = TrainingFolder.of(project / "student").newest()
    assert f"go on from {reached.relative_to(project)} with --resume" in lines[0]  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_process_that_waits_for_another_for_ever_is_ended(one_waits: Fork) -> None:
    _, said = one_waits.communicate(timeout=60)
    assert "SystemError: a fault of our own" in said
    assert one_waits.returncode == 1
