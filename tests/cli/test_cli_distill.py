"""``boomerang distill`` as a shell sees it: words, exit codes, kills, and several processes."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path

import pytest
from distilling import RECIPE, copy_project, make_project
from files import edit_json, names, tensor_bytes
from processes import MODULE, boomerang, torchrun, two_boomerangs, wait_for
from running import assert_refused, run
from tiny_models import make_tokenizer

from boomerang_cli.cli.output import Output
from boomerang_cli.engine.distillation.progress import TrainingProgress
from boomerang_cli.engine.processes import launch

DISTILL = ("distill", "--data", "train.txt", *RECIPE)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("made"))


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh project, which is the current folder."""
    monkeypatch.chdir(copy_project(made, tmp_path))
    return tmp_path


def steps_saved(folder: Path) -> int:
    found = (re.fullmatch(r"checkpoint-(\d+)", path.name) for path in folder.glob("*.training/*"))
    return max((int(each[1]) for each in found if each), default=0)


# What is printed


def test_stdout_is_the_folder_and_stderr_the_course_and_what_to_type_next(project: Path) -> None:
    done = run(*DISTILL, "--eval-data", "held-out.txt")
    assert done.stdout == "student\n"
    opening, *lines = done.stderr.splitlines()
    assert opening == "opening student-init, its teacher and the text"
    assert re.fullmatch(r"6 steps of 64 tokens: 384 tokens, micro-batch size \d", lines[0])
    last = r"step 6 of 6, .* tokens/s, 0:00 left; loss [\d.]+ \(cross entropy [\d.]+, kl [\d.]+, cosine [\d.]+\), "
    last += r"learning rate 0\.0e\+00, held-out perplexity ([\d.]+) \(teacher ([\d.]+)\)"
    first = re.fullmatch(r"step 0 of 6; held-out perplexity ([\d.]+) \(teacher ([\d.]+)\)", lines[1])
    found = re.fullmatch(last, lines[-3])
    assert first
    assert found
    course = f"held-out perplexity: {first[1]} before, {found[1]} after, {first[2]} of the teacher"
    assert lines[-2] == course
    assert lines[-1] == "hint: make a model between it and its teacher: `boomerang patch --layers 2`"


def test_json_is_one_object_with_the_documented_keys(project: Path) -> None:
    result = json.loads(run(*DISTILL, "--eval-data", "held-out.txt", "--json", "--quiet").stdout)
    assert [*result] == [
        "path", "steps", "tokens", "losses", "eval", "eval_before", "eval_teacher", "seconds", "tokens_per_second",
        "peak_memory_bytes", "phases", "recipe",
    ]  # fmt: skip
    assert [*result["losses"]] == ["total", "cross_entropy", "kl", "cosine"]
    assert [*result["eval"]] == ["loss", "perplexity"]


def test_quiet_says_nothing_but_the_result(project: Path) -> None:
    done = run(*DISTILL, "--quiet", "-o", "mine")
    assert (done.stdout, done.stderr) == ("mine\n", "")


def test_a_dry_run_shows_files_and_writes_none(project: Path) -> None:
    before = names(project)
    shown = run(*DISTILL, "--dry-run").stdout
    assert all(name in shown for name in ("model.safetensors", "tokenizer.json", "student_config.json"))
    assert names(project) == before


def test_a_terminal_sees_step_losses_rate_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    for name, value in {"TERM": "xterm", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)
    losses = {"total": 3.5, "cross_entropy": 3.25, "kl": 0.5, "cosine": 0.1}
    with Output().training() as update:
        assert update is not None
        update(TrainingProgress(30, 100, 4096, 8, losses, {"perplexity": 20.5}, 3e-4, 1234.5, 3725.0))
    shown = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", sys.stderr.getvalue())  # type: ignore[attr-defined]
    assert "━" in shown
    assert "step 30 of 100, 1,234 tokens/s, 1:02:05 left" in shown
    assert "loss 3.500 (cross entropy 3.250, kl 0.500, cosine 0.100), learning rate 3.0e-04" in shown


# Refusals


def spoil(project: Path, what: str) -> None:
    if what == "vocabulary":
        edit_json(project / "student-init" / "config.json", vocab_size=63)
    elif what == "no student":
        shutil.rmtree(project / "student-init")
    elif what == "not UTF-8":
        (project / "train.txt").write_bytes(b"w3 w4 \xff\xfe w5")
    elif what == "empty":
        (project / "train.txt").write_text("\n")
    elif what == "end of text":
        tokenizer = make_tokenizer()
        tokenizer.add_special_tokens({"eos_token": "<|im_end|>"})
        tokenizer.save_pretrained(project / "teacher")
    elif what == "output":
        (project / "student").mkdir()


REFUSED: dict[str, tuple[str, tuple[str, ...], str]] = {
    "no student": ("no student", (), r"no student to distil in \./student-init: make one with `boomerang init-student"),
    "wrong pair": ("vocabulary", (), r"do not belong together: vocab_size 63 and 64"),
    "teacher that is not there": ("", ("--teacher", "nowhere"), r"no model at nowhere"),
    "layers that contradict": ("", ("--keep", "0,1,2,3,4"), r"--keep 0,1,2,3,4 contradicts student_config\.json"),
    "data that is not there": ("", ("--data", "no.txt"), r"--data no\.txt does not exist"),
    "data that is not UTF-8": ("not UTF-8", (), r"train\.txt is not UTF-8 \(byte 0xff"),
    "end of text without a row": ("end of text", (), r"gives the token '<\|im_end\|>' the id 64, and the model has 64"),
    "empty data": ("empty", (), r"--data train\.txt holds 0 tokens: 0 sequences, and 24 are needed"),
    "too little data": ("", ("--steps", "600"), r"holds 2,\d{3} tokens: .* and 2,400 are needed; .* or --repeat"),
    "evaluation that is not there": ("", ("--eval-data", "no.txt"), r"--eval-data no\.txt does not exist"),
    "no steps": ("", ("--steps", "0"), r"--steps 0 must be 1 or more"),
    "no saving": ("", ("--save-every", "0"), r"--save-every 0 must be 1 or more"),
    "long sequences": ("", ("--sequence-length", "65"), r"--sequence-length 65 is beyond the 64 positions of "),
    "a batch in unequal parts": ("", ("--micro-batch-size", "3"), r"--batch-size 4 cannot be .* --micro-batch-size 3"),
    "nothing to train on": ("", ("--no-kl", "--no-cosine", "--no-cross-entropy"), r"nothing to train on"),
    "a tracker that is missing": ("", ("--report-to", "trackio"), r"needs the package trackio: `pip install trackio`"),
    "nothing to resume": ("", ("--resume",), r"nothing to resume: student\.training holds no complete checkpoint"),
    "an output that is there": ("output", (), r"student exists: give another --output, or --overwrite"),
    "more GPUs than there are": ("", ("--gpus", "99"), r"--gpus 99, but this machine has \d"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line_and_leaves_nothing_behind(project: Path, case: str) -> None:
    what, arguments, message = REFUSED[case]
    spoil(project, what)
    before = names(project)
    assert_refused("distill", "--quiet", *(DISTILL[1:3] if "--data" not in arguments else ()), *RECIPE, *arguments,
                   message=message)  # fmt: skip
    assert names(project) == before


@pytest.mark.parametrize("value", ["none", "1.5", "-1"])
def test_a_micro_batch_size_that_is_no_number_is_wrong_usage(project: Path, value: str) -> None:
    run(*DISTILL, "--micro-batch-size", value, code=2)


def test_a_loss_that_is_no_number_stops_with_its_step_and_the_last_good_checkpoint(project: Path) -> None:
    found = run(*DISTILL, "--learning-rate", "1e30", "--save-every", "1", "--quiet", code=1).stderr
    assert re.fullmatch(
        r"error: the loss is not finite at step \d .*lower --learning-rate; "
        r"the last good checkpoint is student\.training/checkpoint-\d\n",
        found,
    )
    assert not (project / "student").exists()


def test_a_training_that_was_begun_is_not_thrown_away(project: Path) -> None:
    run(*DISTILL, "--learning-rate", "1e30", "--save-every", "1", "--quiet", code=1)
    before = names(project / "student.training")
    assert_refused(*DISTILL, "--quiet", message=r"go on with --resume, or start anew with --overwrite")
    assert_refused(*DISTILL, "--quiet", "--overwrite", "--steps", "600", message=r"2,400 are needed")
    assert names(project / "student.training") == before
    run(*DISTILL, "--quiet", "--overwrite")
    assert not (project / "student.training").exists()


def test_resuming_with_another_recipe_is_refused(project: Path) -> None:
    run(*DISTILL, "--learning-rate", "1e30", "--save-every", "1", "--quiet", code=1)
    assert_refused(*DISTILL, "--resume", "--quiet", message=r"another recipe: --learning-rate 0\.01 \(was 1e\+30\)")


# Kills


LONG = ("distill", "--data", "train.txt", *RECIPE, "--steps", "300", "--repeat", "--eval-data", "held-out.txt")


@pytest.mark.slow
def test_a_killed_and_resumed_run_ends_in_the_weights_of_an_unbroken_one(project: Path) -> None:
    killed = boomerang(*LONG, "--steps", "80", "-o", "broken", "--save-every", "2", "--quiet")
    wait_for(lambda: steps_saved(project) >= 4, killed)
    killed.kill()
    killed.communicate()
    assert not (project / "broken").exists()
    run(*LONG, "--steps", "80", "-o", "broken", "--resume", "--quiet")
    run(*LONG, "--steps", "80", "-o", "whole", "--quiet")
    assert tensor_bytes(project / "broken") == tensor_bytes(project / "whole")
    logs = [(project / name / "metrics.jsonl").read_text() for name in ("broken", "whole")]
    losses = [[json.loads(line).get("loss") for line in log.splitlines()] for log in logs]
    assert losses[0] == losses[1]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_saves_and_says_how_to_go_on_with_the_users_own_command(
    project: Path, number: signal.Signals, code: int
) -> None:
    command = (*LONG, "--save-every", "1", "-o", "my student")
    process = boomerang(*command)
    wait_for(lambda: steps_saved(project) >= 1, process)
    process.send_signal(number)
    output, said = process.communicate(timeout=300)
    assert (process.returncode, output) == (code, "")
    found = re.search(r"error: interrupted after step (\d+) of 300, saved in .*: go on with `boomerang (.*)`\n", said)
    assert found, said
    assert shlex.split(found[2]) == [*command, "--resume"]
    assert names(project / "my student.training") == [f"checkpoint-{found[1]}"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_processes_that_a_signal_ends_have_its_code(
    number: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.distributed.elastic.multiprocessing.api import SignalException

    def end(arguments: object) -> None:
        raise SignalException("ended", number)

    for variable in ("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "OMP_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")  # else it is set for good
    monkeypatch.setattr("torch.distributed.run.run", end)
    assert launch.run_processes(["-m", "boomerang_cli"], 2) == code


# Several processes


@pytest.mark.slow
def test_two_processes_under_torchrun_make_the_student_of_one_and_only_one_speaks(project: Path) -> None:
    process = torchrun(*MODULE, *DISTILL, "--eval-data", "held-out.txt", "-o", "together", "--json")
    output, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    together = json.loads(output)
    alone = json.loads(run(*DISTILL, "--eval-data", "held-out.txt", "-o", "alone", "--json", "--quiet").stdout)
    assert together["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    assert together["eval"] == pytest.approx(alone["eval"], rel=1e-4)
    assert names(project / "together") == names(project / "alone")
    assert {name: each[:2] for name, each in tensor_bytes(project / "together").items()} == {
        name: each[:2] for name, each in tensor_bytes(project / "alone").items()
    }
    assert said.count("6 steps of 64 tokens") == said.count("hint: ") == 1


def test_of_two_processes_that_refuse_the_first_speaks(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boomerang_cli.cli.error_line._SECONDS_FOR_FIRST_PROCESS", 0)
    both = two_boomerangs(*DISTILL, "--micro-batch-size", "4", "--quiet")
    said = [re.findall("error: .*", process.communicate(timeout=300)[1]) for process in both]  # torch may warn, too
    parts = "--micro-batch-size 4 on 2 processes (8 sequences)"
    assert said[0] == [f"error: --batch-size 4 cannot be split into equal parts of {parts}: make it a multiple of 8"]
    assert len(said[1]) <= 1, said  # nothing, where it sees that the first one speaks before that has gone
    assert [process.returncode for process in both] == [1, 1]


def test_gpus_starts_the_same_command_in_so_many_processes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[list[str], int]] = []
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    monkeypatch.setattr(launch, "run_processes", lambda command, processes: started.append((command, processes)) or 7)
    monkeypatch.setattr(sys, "argv", ["boomerang", "distill", "--gpus", "4", "--steps", "3"])
    run("distill", "--gpus", "4", "--steps", "3", code=7)
    assert started == [(["-m", "boomerang_cli", "distill", "--steps", "3"], 4)]


@pytest.mark.parametrize("written", [["--gpus", "4"], ["--gpus=4"]])
def test_an_option_is_left_out_in_either_spelling(written: list[str]) -> None:
    assert launch.without_option(["distill", *written, "--seed", "4"], "--gpus") == ["distill", "--seed", "4"]
