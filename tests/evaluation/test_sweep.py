"""``sweep``: its rows, and its files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from files import names
from sweeping import N

from boomerang_cli.engine.evaluation.rows import SweepRow, best_order, find_misses
from boomerang_cli.engine.patch import patch

# Rows


def test_every_size_has_a_row_the_student_and_the_teacher_included(run: Any) -> None:
    assert [(row.layers, row.depth) for row in run().rows] == [(0, 5), (1, 6), (2, 7), (3, 8)]


def test_sizes_are_those_of_the_written_models(run: Any, folder: Path, tmp_path: Path) -> None:
    for row in run().rows:
        made = patch(
            layers=row.layers, student=folder / "student", output=tmp_path / f"model-{row.layers}", order="first"
        )
        assert (row.depth, row.parameters, row.bytes) == (made.depth, made.parameters, made.bytes)


def test_the_teacher_has_no_distance_from_itself(run: Any) -> None:
    assert run().rows[-1].kl == 0.0


def test_the_undistilled_baseline_ends_at_the_teacher(run: Any) -> None:
    last = run(baseline=True).rows[-1]
    assert last.baseline == {"perplexity": last.perplexity, "kl": 0.0}


def test_chosen_sizes_alone_are_scored(run: Any) -> None:
    assert [row.layers for row in run(layers=[2, 0]).rows] == [0, 2]


def test_orders_are_compared_one_after_another(run: Any) -> None:
    assert [row.order for row in run(order=["first,last"], layers=[1]).rows] == ["first", "last"]


def test_an_order_named_twice_is_scored_once(run: Any) -> None:
    assert {row.order for row in run(order=["auto", "first"]).rows} == {"first"}


def test_searched_sets_are_the_closest_to_the_teacher(run: Any) -> None:
    rows = run(order=["exact,first,last,greedy,nested"]).rows
    for layers in range(N + 1):
        distances = {row.order: row.kl for row in rows if row.layers == layers}
        assert distances["exact"] == min(distances.values())


def test_speed_is_measured_when_asked_for(run: Any) -> None:
    for row in run(speed=True, layers=[0, 3]).rows:
        assert row.tokens_per_second > 0
        assert row.generated_tokens_per_second > 0


def test_the_best_order_is_the_closest_in_the_mean() -> None:
    rows = [SweepRow(1, 6, 1, 1, name, (), kl=kl) for name, kl in (("a", 0.1), ("a", 0.5), ("b", 0.2), ("b", 0.3))]
    assert best_order(rows) == "b"


def test_a_value_that_is_no_number_misses_every_bound() -> None:
    row = SweepRow(1, 6, 1, 1, "last", (), perplexity=float("nan"), kl=0.0)
    assert [miss.measure for miss in find_misses([row], 1e9, 1.0)] == ["perplexity"]


# Files


def test_a_sweep_leaves_exactly_these_files(run: Any) -> None:
    path = run().path
    assert {*names(path)} == {
        "journal.jsonl", "results.json", "results.csv", "order.json", "curve.png", "curve.svg"
    }  # fmt: skip


def test_results_json_is_the_result(run: Any) -> None:
    result = run(baseline=True)
    saved = json.loads((result.path / "results.json").read_text())
    assert saved["path"] == str(result.path)
    assert [(row["layers"], row["kl"], row["baseline"]) for row in saved["rows"]] == [
        (row.layers, row.kl, row.baseline) for row in result.rows
    ]


def test_top1_and_acceptance_are_in_every_file(run: Any) -> None:
    result = run()
    saved = json.loads((result.path / "results.json").read_text())["rows"]
    lines = list(csv.DictReader((result.path / "results.csv").open()))
    for row, each, line in zip(result.rows, saved, lines, strict=True):
        assert 0 < row.acceptance < 1 or row.layers == N
        assert (each["top1"], each["acceptance"]) == (row.top1, row.acceptance)
        assert (float(line["top1"]), float(line["acceptance"])) == (row.top1, row.acceptance)


def test_results_csv_has_a_line_a_row(run: Any) -> None:
    result = run(baseline=True)
    lines = list(csv.DictReader((result.path / "results.csv").open()))
    assert [float(line["baseline_kl"]) for line in lines] == [row.baseline["kl"] for row in result.rows]


def test_several_orders_leave_a_file_each_and_the_best_as_order_json(run: Any) -> None:
    result = run(order=["first,last"])
    best = (result.path / f"order-{best_order(result.rows)}.json").read_text()
    assert (result.path / "order.json").read_text() == best


def test_order_json_feeds_patch_and_sweep(run: Any, folder: Path, tmp_path: Path) -> None:
    result = run(order=["exact"])
    order = str(result.path / "order.json")
    made = patch(layers=2, order=order, student=folder / "student", output=tmp_path / "model")
    again = run(order=[order], output=tmp_path / "again")
    assert made.patched_blocks == again.rows[2].patched_blocks == result.rows[2].patched_blocks


def test_written_models_are_those_that_patch_writes(run: Any, folder: Path, tmp_path: Path) -> None:
    path = run(write=True).path
    patch(layers=2, order="first", student=folder / "student", output=tmp_path / "model")
    assert {each.name for each in path.iterdir() if each.is_dir()} == {"5L", "6L", "7L", "8L"}
    assert (path / "7L" / "model.safetensors").read_bytes() == (tmp_path / "model" / "model.safetensors").read_bytes()


def test_a_model_of_several_orders_is_written_once(run: Any) -> None:
    path = run(write=True, order=["first,last"], layers=[0, 1]).path
    assert {each.name for each in path.iterdir() if each.is_dir()} == {"5L-first", "6L-first", "6L-last"}
