"""``patch`` by what matters: bounds, and the orders and scores that a sweep left beside the student."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from files import edit_json, flip, names
from running import assert_refused, run
from tiny_models import VOCABULARY, load, save_pair

from boomerang_cli.engine.errors import SelectionError
from boomerang_cli.engine.evaluation.rows import SweepResult, SweepRow
from boomerang_cli.engine.patch import PatchResult, patch
from boomerang_cli.engine.sweep import sweep


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SweepResult]:
    """A project folder with a student and a sweep of three orders, of which k = 3 of one is not scored."""
    project = tmp_path_factory.mktemp("project")
    save_pair(project, "llama", max_position_embeddings=16)
    numbers = torch.randint(3, VOCABULARY, (200,), generator=torch.Generator().manual_seed(5)).tolist()
    (project / "text.txt").write_text(" ".join(f"w{number}" for number in numbers))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(project)
        return project, sweep(data=["text.txt"], order=["first,last,greedy"], speed=True)


@pytest.fixture(autouse=True)
def project(made: tuple[Path, SweepResult], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made[0])
    return made[0]


@pytest.fixture
def rows(made: tuple[Path, SweepResult]) -> list[SweepRow]:
    return sorted(made[1].rows, key=lambda row: (row.parameters, row.kl))


def planned(**asked: Any) -> PatchResult:
    return patch(**asked, dry_run=True)


def refusal(**asked: Any) -> str:
    with pytest.raises(SelectionError) as raised:
        planned(**asked)
    return str(raised.value)


# Bounds


def test_a_bound_of_quality_asks_for_the_smallest_size_that_keeps_it(rows: list[SweepRow]) -> None:
    middle = sorted(row.kl or 0 for row in rows)[len(rows) // 2]
    smallest = next(row for row in rows if (row.kl or 0) <= middle)
    assert planned(max_kl=middle).patched_blocks == smallest.patched_blocks
    assert planned(max_kl=0).layers == 3


def test_a_bound_of_cost_asks_for_the_size_that_scores_best(rows: list[SweepRow]) -> None:
    limit = next(row.parameters for row in rows if row.layers == 2)
    closest = min((row for row in rows if row.parameters <= limit), key=lambda row: row.kl or 0)
    assert planned(params=str(limit)).patched_blocks == closest.patched_blocks


def test_several_bounds_give_the_best_that_keeps_all(rows: list[SweepRow]) -> None:
    two = min((row for row in rows if row.layers == 2), key=lambda row: row.kl or 0)
    found = planned(size=str(two.bytes), max_kl=two.kl, min_top1=0)
    assert found.patched_blocks == two.patched_blocks
    assert found.scores["kl"] == two.kl


def test_where_no_size_keeps_all_the_bound_that_excludes_the_last_is_named(rows: list[SweepRow]) -> None:
    student = rows[0]
    assert refusal(params=str(student.parameters), max_kl=0) == (
        f"no size of those that keep --params {student.parameters} keeps --max-kl 0: the nearest, "
        f"{planned(layers=0).order} k=0, has KL {student.kl:.4f}, KL {student.kl:.4f} too much"
    )


def test_a_size_nobody_scored_keeps_no_bound_of_scores(tmp_path: Path, project: Path, rows: list[SweepRow]) -> None:
    shutil.copytree(project / "sweep", tmp_path / "sweep")
    content = json.loads((tmp_path / "sweep" / "results.json").read_text())
    kept = [row for row in content["rows"] if row["layers"] < 3]
    edit_json(tmp_path / "sweep" / "results.json", rows=kept)
    assert refusal(max_kl=0, results=tmp_path / "sweep").startswith("no size keeps --max-kl 0: the nearest, ")


def test_scores_that_no_size_has_are_missed_in_the_sweep_that_was_named(tmp_path: Path, project: Path) -> None:
    shutil.copytree(project / "sweep", tmp_path / "other")
    rows = json.loads((tmp_path / "other" / "results.json").read_text())["rows"]
    edit_json(tmp_path / "other" / "results.json", rows=[{**row, "generated_tokens_per_second": None} for row in rows])
    message = refusal(min_speed=1.0, results=tmp_path / "other")
    assert message.startswith(f"--min-speed needs scores of this pair, and {tmp_path / 'other'} has none: `boomerang ")


def test_memory_is_weights_cache_and_a_tenth() -> None:
    found = planned(memory="1MB", context=16, batch=2).memory
    assert found is not None
    cache = 2 * 8 * 16 * (2 * 2 * 8) * 4  # sequences, layers, tokens, keys and values of two heads, float32
    assert found.cache_bytes == cache
    assert found.reserve_bytes == pytest.approx((found.weights_bytes + cache) / 9, abs=1)
    assert planned(memory=str(found.needed_bytes), batch=2).layers == 3  # the default context is at most the model's
    assert planned(memory=str(found.needed_bytes - 1), context=16, batch=2).layers < 3


def test_quantised_weights_take_their_bits_and_a_cache_of_16() -> None:
    found = planned(memory="1MB", context=16, weights_bits=4.5)
    assert found.memory is not None
    assert found.memory.weights_bytes == -(-found.parameters * 9 // 16)
    assert found.memory.cache_bytes == 8 * 16 * (2 * 2 * 8) * 2


def test_a_bound_of_speed_is_of_the_tokens_that_a_size_writes(rows: list[SweepRow]) -> None:
    slow = min(row.generated_tokens_per_second or 0 for row in rows)
    assert planned(min_speed=slow).scores["generated_tokens_per_second"] >= slow
    fastest = max(rows, key=lambda row: row.generated_tokens_per_second or 0)
    assert planned(min_speed=fastest.generated_tokens_per_second).patched_blocks == fastest.patched_blocks


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"layers": 1, "max_kl": 0.1}, "--layers and --max-kl exclude one another: give one of"),
        ({"max_kl": -1.0}, "--max-kl -1 bounds nothing: give 0 or more"),
        ({"min_top1": 90.0}, "--min-top1 90 bounds nothing: give 0 to 1"),
        ({"max_kl": float("nan")}, "--max-kl nan bounds nothing"),
        ({"params": "2B", "context": 8}, "--context says what --memory is used for: give that, too"),
        ({"memory": "1MB", "context": 17}, "--context 17 is more than .* has positions for: give 16 or fewer"),
        ({"memory": "1MB", "weights_bits": 0.0}, "--weights-bits 0.0 must be above 0"),
        ({"min_speed": 1e12}, "no size keeps --min-speed 1e"),
        ({"max_kl": 1.0, "results": "student"}, "--results student holds no results.json: give the folder that"),
        ({"layers": 1, "order": "exact"}, "there are auto, first, last, greedy; `boomerang sweep --data TEXT --order"),
        ({"layers": 1, "order": "middle"}, "--order middle is neither auto, first, last, greedy nor a file"),
    ],
)
def test_bounds_that_mean_nothing_are_refused(asked: dict[str, Any], message: str) -> None:
    options = [word for key, value in asked.items() for word in (f"--{key.replace('_', '-')}", value)]
    assert_refused("patch", *options, "-o", "model", message=f".*{message}")


# What the sweep left


def test_the_best_order_of_the_sweep_is_taken_and_told(made: tuple[Path, SweepResult]) -> None:
    best = json.loads((made[0] / "sweep" / "order.json").read_text())
    notes: list[str] = []
    found = planned(layers=1, on_note=notes.append)
    assert (found.order, list(found.patched_blocks)) == (best["order"], best["patched_blocks"][1])
    assert notes[0] == f"sweep: order {best['order']}, KL {found.scores['kl']:.4f} on text.txt"


def test_an_order_that_is_given_goes_before_the_sweeps(rows: list[SweepRow]) -> None:
    notes: list[str] = []
    assert planned(layers=1, order="last", on_note=notes.append).patched_blocks == (3,)
    assert planned(layers=1, order="auto").order == "first"
    assert planned(layers=1, order="greedy").order == "greedy"
    ones = {row.order: row.kl or 0 for row in rows if row.layers == 1}
    told = "is closer here" in notes[0]
    assert told == (ones["last"] > min(ones.values()))


def test_a_sweep_of_a_copied_student_is_used(tmp_path: Path, project: Path) -> None:
    shutil.copytree(project / "student", tmp_path / "student", copy_function=shutil.copy)
    notes: list[str] = []
    assert planned(max_kl=0, student=tmp_path / "student", on_note=notes.append).scores["kl"] < 1e-6
    assert notes[0].startswith("sweep: order ")


def test_a_student_that_was_trained_on_is_known_without_reading_it_all(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(project / "student", tmp_path / "student", copy_function=shutil.copy)
    flip(tmp_path / "student" / "model.safetensors", -1)
    whole = "boomerang_cli.engine.checkpoint.content_digest.weights_digest"
    monkeypatch.setattr(whole, lambda model: pytest.fail(f"{model.name} is read"))
    assert planned(layers=1, student=tmp_path / "student").scores == {}


def test_a_sweep_of_other_files_is_not_used_and_that_is_told(tmp_path: Path, project: Path) -> None:
    shutil.copytree(project / "student", tmp_path / "student", copy_function=shutil.copy)
    flip(tmp_path / "student" / "model.safetensors", -1)
    notes: list[str] = []
    found = planned(layers=1, student=tmp_path / "student", on_note=notes.append)
    assert found.order == "first"
    assert found.scores == {}
    assert notes[0] == "sweep is not used: it scored other files of the student: sweep these"
    notes.clear()
    again = planned(layers=1, student=tmp_path / "student", results="sweep", on_note=notes.append)
    assert again.scores
    assert notes[0].startswith("warning: sweep scored other files of the student than these")


@pytest.mark.parametrize("content", ["{}", '{"rows": [{}]}', '{"rows": [{"patched_blocks": ["x"]}]}', "no JSON"])
def test_a_damaged_sweep_is_told_and_left_aside(content: str, tmp_path: Path, project: Path) -> None:
    shutil.copytree(project / "sweep", tmp_path / "sweep")
    (tmp_path / "sweep" / "results.json").write_text(content)
    notes: list[str] = []
    order = str(tmp_path / "sweep" / "order.json")
    assert planned(layers=1, order=order, on_note=notes.append).scores == {}
    assert notes[0].startswith(f"{tmp_path / 'sweep'} is not used: ")


def test_another_students_sweep_is_told_once_by_what_named_it(tmp_path: Path, project: Path) -> None:
    shutil.copytree(project / "sweep", tmp_path / "sweep")
    edit_json(tmp_path / "sweep" / "order.json", teacher_layers=99)
    order, notes = tmp_path / "sweep" / "order.json", list[str]()
    with pytest.raises(SelectionError, match=f"^--order {order}: this order is for another student"):
        planned(layers=1, order=str(order), on_note=notes.append)
    assert notes == []
    told = refusal(layers=1, results=tmp_path / "sweep")
    assert told.startswith(f"--results {order}: this order is for another student")


# The command


def test_the_menu_shows_every_size_once_and_marks_the_chosen(rows: list[SweepRow]) -> None:
    shown = run("patch", "--layers", "1", "--memory", "1MB", "--dry-run", code=2).stderr
    assert "--layers and --memory exclude one another" in shown
    shown = run("patch", "--memory", "1MB", "--context", "16", "--max-kl", "100", "--dry-run").stdout
    menu = shown[: shown.index("\n\n")].splitlines()
    assert menu[0].split()[-6:] == ["acceptance", "tokens/s", "written/s", "blocks", "patched", "memory"]
    assert len(menu) == 1 + len({row.patched_blocks for row in rows})
    assert [line.endswith("<- this one") for line in menu[1:]] == [False] * (len(menu) - 2) + [True]


def test_numbers_of_tasks_are_columns_of_the_menu(tmp_path: Path, project: Path) -> None:
    shutil.copytree(project / "sweep", tmp_path / "sweep")
    content = json.loads((tmp_path / "sweep" / "results.json").read_text())
    tasks = {"piqa": {"acc": 0.625, "acc_stderr": "N/A"}, "odd": 3}
    edit_json(tmp_path / "sweep" / "results.json", rows=[{**row, "tasks": tasks} for row in content["rows"]])
    shown = run("patch", "--layers", "1", "--results", tmp_path / "sweep", "--dry-run").stdout
    assert "piqa acc" in shown.splitlines()[0]
    assert " 0.6250 " in shown.splitlines()[1]


def test_json_of_a_dry_run_holds_the_menu(rows: list[SweepRow]) -> None:
    content = json.loads(run("patch", "--max-kl", "100", "--dry-run", "--json").stdout)
    chosen = [row for row in content["menu"] if row["chosen"]]
    assert [row["patched_blocks"] for row in chosen] == [content["patched_blocks"]] == [[]]
    assert content["scores"]["kl"] == rows[0].kl


def test_a_model_by_budget_is_written(project: Path) -> None:
    shown = run("patch", "--memory", "1MB", "--context", "16", "--max-kl", "0", "-o", "budget", "--verify")
    assert "of weights + " in shown.stderr
    assert load(project / "budget").config.num_hidden_layers == 8
    assert "budget" in names(project)
    shutil.rmtree("budget")
