"""``boomerang sweep``: its words, its table, its exit codes."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from files import processor_seconds_of_children
from tiny_models import VOCABULARY, make_tokenizer, save_pair
from typer.testing import CliRunner, Result

from boomerang_cli.cli.app import app
from boomerang_cli.cli.sweep_table import sweep_table
from boomerang_cli.engine.evaluation.pareto import Recommendation, Size
from boomerang_cli.engine.evaluation.rows import SweepRow

pytestmark = pytest.mark.usefixtures("plain_pictures")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    save_pair(folder, "llama", max_position_embeddings=16)
    numbers = torch.randint(3, VOCABULARY, (50,), generator=torch.Generator().manual_seed(5)).tolist()
    (folder / "text.txt").write_text(" ".join(f"w{number}" for number in numbers))
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOOMERANG_STUDENT", str(folder / "student"))

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["sweep", *arguments])

    return invoke


@pytest.fixture
def text(folder: Path) -> str:
    return str(folder / "text.txt")


ROWS = [
    SweepRow(1, 18, 2_000_000, 4_000_000, "last", (3,), 12.3456, 0.321, 0.0789, 1234.5, None,
             {"perplexity": 34.5, "kl": 1.5}, {"piqa": {"acc": 0.5, "acc_stderr": 0.1}}),
    SweepRow(2, 19, 2_100_000, 4_200_000, "last", (3, 5), 9.8765, 0.0321, 0.0, 1000.0, None,
             {"perplexity": 1.5e6, "kl": 9.5}, {"piqa": {"acc": 0.6, "acc_stderr": 0.1}}),
]  # fmt: skip


def test_the_table_shows_every_measure_where_there_is_room() -> None:
    shown, left_out = sweep_table(ROWS, width=160)
    assert left_out == ()
    left = [line[:62] for line in shown.splitlines()]
    assert left == [
        "order  k  depth  parameters     size     perplexity      KL  n",
        "last   1     18       2.00M  4.00 MB   12.35 ± 0.32  0.0789   ",
        "last   2     19       2.10M  4.20 MB  9.877 ± 0.032  0.0000   ",
    ]
    right = [line[61:] for line in shown.splitlines()]
    assert right == [
        "never distilled  its KL  tokens/s  piqa acc  blocks patched",
        "          34.50  1.5000     1,234    0.5000               3",
        "       1.50e+06  9.5000     1,000    0.6000             3,5",
    ]


def test_a_narrow_table_leaves_out_what_matters_least() -> None:
    shown, left_out = sweep_table(ROWS, width=80)
    assert left_out == ("blocks patched", "its KL", "size", "tokens/s")
    assert max(map(len, shown.splitlines())) <= 80


def test_what_was_not_measured_has_no_column() -> None:
    shown, _ = sweep_table([SweepRow(1, 18, 2_000_000, 4_000_000, "last", (3,))])
    assert shown.splitlines()[0] == "order  k  depth  parameters     size  blocks patched"


def test_stdout_carries_the_table_alone(run: Any, text: str) -> None:
    result = run("--data", text)
    assert result.exit_code == 0
    assert [line.split()[:3] for line in result.stdout.splitlines()] == [
        ["order", "k", "depth"], ["first", "0", "5"], ["first", "1", "6"], ["first", "2", "7"], ["first", "3", "8"]
    ]  # fmt: skip


def test_the_hint_is_a_command_that_works(run: Any, text: str) -> None:
    hint = run("--data", text).stderr.splitlines()[-1]
    command = hint.split("`")[1].split()
    assert command[:2] == ["boomerang", "patch"]
    assert CliRunner().invoke(app, command[1:]).exit_code == 0


@pytest.mark.parametrize("order", ["first", "first,last,exact"])
def test_the_hint_holds_for_a_pair_that_was_named(
    order: str, folder: Path, run: Any, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOMERANG_STUDENT", "nowhere")
    named = ["--student", str(folder / "student"), "--teacher", str(folder / "teacher"), "--keep", "0,2,4,5,7"]
    shown = run("--data", text, "--order", order, "-o", "my sweep", *named).stderr
    command = shlex.split(shown.splitlines()[-1].split("`")[1])
    result = CliRunner().invoke(app, [*command[1:], "--json"])
    front = json.loads(Path("my sweep/results.json").read_text())["recommended"]["pareto"]
    assert json.loads(result.stdout)["patched_blocks"] in [size["patched_blocks"] for size in front]


def test_the_table_marks_the_front_and_the_size_to_take() -> None:
    sizes = tuple(Size("last", row.layers, 18, 1, row.patched_blocks, 0.1, None, None) for row in ROWS)
    shown, _ = sweep_table(ROWS, Recommendation("kl", sizes, sizes[1], "elbow", ""), width=200)
    assert [line.split()[5:8] for line in shown.splitlines()[1:]] == [["MB", "*", "12.35"], ["MB", "take", "*"]]


def test_the_recommended_size_is_told_with_its_reason(run: Any, text: str) -> None:
    result = run("--data", text, "--layers", "1")
    assert "take first k=1: no other size is as close to the teacher" in result.stderr
    assert result.stderr.splitlines()[-1] == "hint: write the recommended size: `boomerang patch --layers 1`"


def test_what_makes_scores_mean_nothing_is_told(run: Any, text: str) -> None:
    result = run("--data", text, "--layers", "0,3")
    assert "warning: the student has a perplexity of " in result.stderr  # both are random
    assert json.loads(Path("sweep/results.json").read_text())["warnings"]


def test_json_is_one_object_with_the_keys_of_the_result(run: Any, text: str) -> None:
    content = json.loads(run("--data", text, "--json", "--baseline").stdout)
    assert list(content) == [
        "path", "teacher", "student", "data", "rows", "misses", "asked", "recommended", "warnings", "fingerprints",
        "sha256", "misreaders",
    ]  # fmt: skip
    assert list(content["recommended"]) == ["measure", "pareto", "knee", "rule", "reason"]
    promised = "layers depth parameters bytes order patched_blocks perplexity perplexity_stderr kl tokens_per_second"
    assert {*promised.split(), "baseline", "tasks", "portable"} <= content["rows"][0].keys()


def test_quiet_says_nothing_but_the_table(run: Any, text: str) -> None:
    assert run("--data", text, "--quiet").stderr == ""


def test_a_bound_that_is_missed_exits_with_one_and_says_where(run: Any, text: str) -> None:
    result = run("--data", text, "--json", "--max-kl", "0", "--layers", "2,3")
    assert result.exit_code == 1
    (miss,) = json.loads(result.stdout)["misses"]
    assert (miss["order"], miss["layers"], miss["measure"], miss["bound"]) == ("first", 2, "kl", 0)
    assert result.stderr.splitlines()[-1].startswith("error: --max-kl 0 missed: first k=2 has kl ")


def test_a_bound_that_is_met_exits_with_zero(run: Any, text: str) -> None:
    assert run("--data", text, "--max-perplexity", "1e9", "--max-kl", "1e9").exit_code == 0


def test_dry_run_shows_the_sizes_and_writes_nothing(run: Any, tmp_path: Path) -> None:
    result = run("--dry-run")
    assert result.stdout.splitlines()[0].split() == ["order", "k", "depth", "parameters", "size", "blocks", "patched"]
    assert list(tmp_path.iterdir()) == []


def test_dry_run_as_json_says_so(run: Any) -> None:
    content = json.loads(run("--dry-run", "--json").stdout)
    assert content["dry_run"] is True
    assert [row["depth"] for row in content["rows"]] == [5, 6, 7, 8]


def test_dry_run_takes_less_than_a_second_and_no_torch(folder: Path) -> None:
    program = (
        "import sys\nfrom boomerang_cli.engine.sweep import sweep\n"
        "sweep(student=sys.argv[1], dry_run=True, device='cpu')\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    started = processor_seconds_of_children()
    subprocess.run([sys.executable, "-c", program, str(folder / "student")], check=True)
    assert processor_seconds_of_children() - started < 1


def test_a_plan_says_where_models_would_stand_and_why(run: Any) -> None:
    words = ("--dry-run", "--gpus", "5", "--gpu-memory", "180kB", "--order", "exact")
    *_, needs, way, text, sets = run(*words).stdout.splitlines()
    assert re.fullmatch(r"both models take .* kB in bfloat16; a GPU of 180\.00 kB has 144\.00 kB for weights", needs)
    assert way.startswith("data-parallel: 2 processes, each with both models, their layers over 2 GPUs (")
    assert way.endswith(" kB on the fullest), which work in turn; 1 GPU left over")
    assert (text.partition(":")[0], sets.partition(":")[0]) == ("text", "exact")
    planned = json.loads(run(*words, "--json").stdout)["placement"]
    assert (planned["way"], planned["processes"], planned["gpus_a_process"]) == ("data-parallel", 2, 2)
    few = run(*words, "--gpus", "1").stdout.splitlines()[-1]
    assert re.fullmatch(r"does not fit on 1 GPU; first fits on 2 GPUs \(.* kB on the fullest\)", few)


def test_a_plan_for_unknown_gpus_and_gpus_without_a_plan_are_refused(
    run: Any, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boomerang_cli.engine.processes.machine._gpus_here", list)
    assert "say with --gpu-memory 80GB how large they are" in run("--dry-run", "--gpus", "2").stderr
    assert "--gpu-memory is for a plan: give --dry-run" in run("--data", text, "--gpu-memory", "80GB").stderr
    assert "--gpus 2 with --device cpu: leave one" in run("--dry-run", "--gpus", "2", "--device", "cpu").stderr
    refused = run("--data", text, "--gpus", "2", "--device", "cpu")
    assert (refused.exit_code, refused.stderr) == (2, "error: --gpus 2 with --device cpu: leave one of them out\n")


def test_dry_run_shows_what_would_be_asked(run: Any) -> None:
    asked = [
        "--prompt",
        "w3",
        "--prompt",
        "w4",
        "--system-instruction",
        "w7",
        "--tasks",
        "a,b",
        "--apply-chat-template",
    ]
    result = run("--dry-run", *asked)
    assert result.stderr.splitlines() == [
        "tasks for each: a, b --apply-chat-template --fewshot-as-multiturn --system-instruction 'w7'",
        "prompt for each: 'w3' --system-instruction 'w7'",
        "prompt for each: 'w4' --system-instruction 'w7'",
    ]


def test_the_files_that_there_are_are_told(run: Any) -> None:
    result = run("--prompt", "w3 w4", "--layers", "0")
    assert "sweep: results.json, results.csv, order.json, samples.md\n" in result.stderr
    assert "curve.png" not in result.stderr


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "nothing to score on"),
    (["--prompt", ""], "--prompt: it is empty: is a variable not set?"),
    (["--data", "missing.txt"], "--data missing.txt does not exist"),
    (["--layers", "7"], "--layers 7 is out of range: this pair has 3 patchable blocks, give 0 to 3"),
    (["--order", "fastest"], "--order fastest is neither"),
    (["--beam", "0"], "--beam 0 must be 1 or more"),
    (["--sequences", "0"], "--sequences 0 must be 1 or more"),
])  # fmt: skip
def test_bad_input_is_one_line(run: Any, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code in (1, 2)  # test_usage.py says which
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    "arguments", [["--batch-size", "many"], ["--batch-size", "0"], ["--layers", "a"], ["--dtype", "int8"]]
)
def test_what_cannot_be_read_is_a_usage_error(run: Any, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_an_interrupt_says_that_the_same_command_goes_on(run: Any, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("boomerang_cli.engine.evaluation.measure.measure_rows", interrupted)
    result = run("--data", text)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == (
        "error: interrupted: what is known is kept in sweep, and the same command goes on from there"
    )


def test_a_token_that_the_models_lack_is_one_line(folder: Path, text: str, run: Any, tmp_path: Path) -> None:
    teacher = shutil.copytree(folder / "teacher", tmp_path / "teacher")
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["w"])
    tokenizer.save_pretrained(teacher)
    found = run("--teacher", str(teacher), "--data", text, "--sequences", "2", "--quiet")
    assert found.exit_code == 1
    assert re.fullmatch(r"error: .* gives the token 'w' the id 64, and the model has 64 tokens.*\n", found.stderr)


def test_what_is_left_out_of_a_folder_of_text_is_told(text: str, run: Any, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    shutil.copy(text, tmp_path / "corpus" / "README.txt")
    (tmp_path / "corpus" / "shard.jsonl.zip").write_text("packed")
    found = run("--data", "corpus", "--sequences", "2", "--layers", "0")
    assert found.exit_code == 0
    assert "corpus: reading 1 file (README.txt); left out 1 .jsonl.zip file\n" in found.stderr
