"""``sweep``: rows, what is kept, what is gone on with, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from files import names
from tiny_models import KEPT, LAYERS, VOCABULARY, save_pair

from boomerang_cli.engine.checkpoint.checkpoint import read_checkpoint
from boomerang_cli.engine.distillation.data import find_sources
from boomerang_cli.engine.distillation.vocabulary_loss import IGNORED_LABEL
from boomerang_cli.engine.errors import BoomerangError, DataError, OutputError, ScoringError, SelectionError
from boomerang_cli.engine.evaluation.journal import Journal, fingerprint
from boomerang_cli.engine.evaluation.rows import SweepRow, best_order, find_misses
from boomerang_cli.engine.evaluation.scoring import Scorer, WindowSums
from boomerang_cli.engine.evaluation.search import show_duration
from boomerang_cli.engine.evaluation.windows import Windows, read_windows
from boomerang_cli.engine.models.loading import load_tokenizer
from boomerang_cli.engine.pair.layers import LayerMap
from boomerang_cli.engine.patch import patch
from boomerang_cli.engine.sweep import sweep

EVALUATION = "boomerang_cli.engine.evaluation.evaluation.Evaluation"
LAYER_MAP = LayerMap(LAYERS, KEPT)
N = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair, and a text of 200 tokens: one window scores 16."""
    folder = tmp_path_factory.mktemp("project")
    save_pair(folder, "llama", max_position_embeddings=16)
    numbers = torch.randint(3, VOCABULARY, (200,), generator=torch.Generator().manual_seed(5)).tolist()
    (folder / "text.txt").write_text(" ".join(f"w{number}" for number in numbers))
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Any:
    def run_sweep(**settings: Any) -> Any:
        given = {"student": folder / "student", "data": [str(folder / "text.txt")], "output": tmp_path / "sweep"}
        return sweep(**{**given, **settings})

    return run_sweep


# Windows


def windows_of(folder: Path, length: int, **settings: Any) -> Windows:
    sources = find_sources([str(folder / "text.txt")]).training
    tokenizer = load_tokenizer(read_checkpoint(folder / "teacher"))
    return read_windows(sources, tokenizer, length, **{"at_most": 1000, **settings})


@pytest.mark.parametrize(("length", "stride"), [(16, None), (16, 5), (7, 7), (200, None), (50, 1)])
def test_each_token_but_the_first_is_scored_exactly_once(folder: Path, length: int, stride: int | None) -> None:
    windows = windows_of(folder, length, stride=stride)
    whole = windows_of(folder, 200)
    assert windows.labels[windows.labels != IGNORED_LABEL].tolist() == whole.labels[0].tolist()


def test_a_label_is_the_token_after_its_position(folder: Path) -> None:
    windows = windows_of(folder, 16, stride=4)
    inner = windows.labels[:, :-1]
    assert bool(((inner == windows.input_ids[:, 1:]) | (inner == IGNORED_LABEL)).all())


def test_a_short_stride_gives_each_token_context(folder: Path) -> None:
    scored = windows_of(folder, 16, stride=4).labels[1:] != IGNORED_LABEL
    assert not scored[:, :12].any()


def test_no_more_windows_are_read_than_asked_for(folder: Path) -> None:
    assert len(windows_of(folder, 16, at_most=3)) == 3


def test_the_first_windows_are_the_same_whatever_follows(folder: Path) -> None:
    assert windows_of(folder, 16).keys[:3] == windows_of(folder, 16, at_most=3).keys


def test_a_window_begins_as_the_tokenizer_begins_a_text(folder: Path) -> None:
    tokenizer = load_tokenizer(read_checkpoint(folder / "teacher"))
    tokenizer.add_bos_token = True
    sources = find_sources([str(folder / "text.txt")]).training
    plain = read_windows(sources, tokenizer, 16, at_most=2)
    begun = tokenizer("")["input_ids"][:1]
    assert plain.input_ids[:, 0].tolist() == (
        begun * 2 if begun == [1] else [plain.input_ids[0, 0], plain.labels[0, 15]]
    )


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
    assert all(row.tokens_per_second > 0 for row in run(speed=True, layers=[0, 3]).rows)


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
        "journal.jsonl", "results.json", "results.csv", "order.json", "curve.png"
    }  # fmt: skip


def test_results_json_is_the_result(run: Any) -> None:
    result = run(baseline=True)
    saved = json.loads((result.path / "results.json").read_text())
    assert saved["path"] == str(result.path)
    assert [(row["layers"], row["kl"], row["baseline"]) for row in saved["rows"]] == [
        (row.layers, row.kl, row.baseline) for row in result.rows
    ]


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


# Going on


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is scored anew: the key of each model, once a batch."""
    keys: list[str] = []
    score = Scorer.score

    def spy(self: Scorer, variants: Any, *rest: Any) -> Any:
        keys.extend(variant.key for variant in variants)
        return score(self, variants, *rest)

    monkeypatch.setattr(Scorer, "score", spy)
    return keys


def test_a_second_run_scores_nothing_again(run: Any, scored: list[str]) -> None:
    first = run()
    scored.clear()
    assert run() == first
    assert scored == []


def test_more_sizes_are_added_to_those_that_are_known(run: Any, scored: list[str]) -> None:
    run(layers=[0, 1])
    scored.clear()
    run(layers=[0, 1, 3])
    assert scored == ["0,1,3"]


def test_a_search_is_part_of_what_is_known(run: Any, scored: list[str]) -> None:
    run(order=["exact"])
    scored.clear()
    run(order=["exact,first,greedy"])
    assert scored == []


def test_a_line_that_a_kill_cut_off_is_forgotten(run: Any) -> None:
    first = run()
    journal = first.path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    assert run() == first


def test_a_damaged_journal_is_refused(run: Any) -> None:
    journal = run().path / "journal.jsonl"
    journal.write_bytes(b"{]\n" + journal.read_bytes())
    assert "journal.jsonl is damaged: start anew with --overwrite" in line(OutputError, run)


def test_a_killed_sweep_goes_on_and_ends_as_an_uninterrupted_one(run: Any, folder: Path, tmp_path: Path) -> None:
    settings = {
        "student": folder / "student",
        "data": [folder / "text.txt"],
        "batch_size": 1,
        "output": tmp_path / "killed",
    }
    program = (  # killed by itself, so that no busy machine can be late
        "import os, pathlib, signal, sys\nfrom boomerang_cli.engine.sweep import sweep\n"
        "journal = pathlib.Path(sys.argv[3], 'journal.jsonl')\n"
        "def kill(*_):\n"
        "    if journal.is_file() and journal.read_bytes().count(b'\\n') >= 4:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "sweep(student=sys.argv[1], data=[sys.argv[2]], batch_size=1, output=sys.argv[3], on_progress=kill)\n"
    )
    arguments = [str(folder / "student"), str(folder / "text.txt"), str(settings["output"])]
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "results.json").exists()
    assert run(output=tmp_path / "killed", batch_size=1).rows == run(batch_size=1).rows


def test_a_model_of_another_order_takes_the_place_of_one_of_its_depth(run: Any) -> None:
    run(write=True, order=["first"], layers=[1])
    path = run(write=True, order=["last"], layers=[1]).path
    assert json.loads((path / "6L" / "boomerang.json").read_text())["patched_blocks"] == [3]


def test_a_written_model_is_not_written_again(run: Any) -> None:
    path = run(write=True).path
    before = (path / "7L").stat().st_ino
    run(write=True)
    assert (path / "7L").stat().st_ino == before


# Refused


def line(error: type[BoomerangError], run: Any, **settings: Any) -> str:
    with pytest.raises(error) as raised:
        run(**settings)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_scores_of_another_text_are_not_mixed_in(run: Any, folder: Path, tmp_path: Path) -> None:
    run()
    (tmp_path / "other.txt").write_text((folder / "text.txt").read_text() + " w3 w4")
    message = line(OutputError, run, data=[str(tmp_path / "other.txt")])
    assert "holds another sweep, of another text: give another --output, or --overwrite" in message


def test_scores_of_another_student_are_not_mixed_in(run: Any, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "student", tmp_path / "student")
    os.utime(tmp_path / "student" / "model.safetensors", ns=(1, 1))
    run()
    assert "of another student" in line(OutputError, run, student=tmp_path / "student")


def test_scores_of_another_version_are_not_mixed_in(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    monkeypatch.setattr("boomerang_cli.engine.evaluation.session.versions", lambda: {"boomerang": "0.0.1"})
    assert "of another boomerang version" in line(OutputError, run)


def test_overwrite_removes_another_sweep(run: Any, scored: list[str]) -> None:
    run()
    scored.clear()
    run(overwrite=True, layers=[1])
    assert scored == ["0"]


def test_a_folder_of_something_else_is_refused_even_with_overwrite(run: Any, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "thesis.tex").touch()
    assert "holds thesis.tex, and no record that boomerang wrote it" in line(OutputError, run, overwrite=True)
    assert "exists and holds no sweep: give another --output" in line(OutputError, run)


def test_a_model_is_not_taken_for_a_sweep(run: Any, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "teacher", tmp_path / "sweep")
    assert "exists and holds no sweep: give another --output" in line(OutputError, run)
    assert "no record that boomerang wrote it" in line(OutputError, run, overwrite=True)


def test_overwrite_removes_what_a_sweep_wrote_and_nothing_else(run: Any, tmp_path: Path) -> None:
    path = run(write=True, order=["first,last"]).path
    assert {"order-first.json", "5L-first", "curve.png"} <= {*names(path)}
    for mine in (path / "notes.md", path / "5L-first" / "notes.md", path / "order-mine.json"):
        mine.touch()
        assert f"holds {mine.relative_to(path)}, which boomerang did not write" in line(
            OutputError, run, overwrite=True
        )
        run(order=["first,last"])  # without it, the sweep goes on beside them
        mine.unlink()
    run(overwrite=True, layers=[1])
    assert names(path) == ["curve.png", "journal.jsonl", "order.json", "results.csv", "results.json"]


def test_what_another_sweep_found_stays_until_this_one_can_begin(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_little(*_: Any, **__: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    path = run().path
    before = {name: (path / name).read_bytes() for name in names(path)}
    monkeypatch.setattr("boomerang_cli.engine.evaluation.session.load_pair", too_little)
    monkeypatch.setattr("boomerang_cli.engine.evaluation.session.is_out_of_memory", lambda error: True)
    assert "too little memory" in line(ScoringError, run, overwrite=True)
    assert {name: (path / name).read_bytes() for name in names(path)} == before


def test_a_model_in_the_way_is_told_before_anything_is_scored(run: Any, scored: list[str]) -> None:
    path = run(write=True, order=["first"], layers=[1]).path
    (path / "6L" / "mine").touch()
    scored.clear()
    assert "6L holds mine, which boomerang did not" in line(OutputError, run, write=True, order=["last"], layers=[1])
    assert scored == []


def test_a_value_that_took_long_is_on_the_disk_once_it_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    with Journal(tmp_path / "sweep", {}) as journal:
        monkeypatch.setattr(os, "fsync", synced.append)
        journal.add("quick", {"kl": 1.0})
        assert synced == []
        monkeypatch.setattr("boomerang_cli.engine.evaluation.journal._SECONDS_BETWEEN_SYNCS", 0.0)
        journal.add("slow", {"kl": 1.0})
        assert len(synced) == 1
    assert len(synced) == 2


def test_a_sweep_does_not_remove_the_student_that_it_holds(run: Any, tmp_path: Path) -> None:
    path = run(write=True).path
    settings = {"student": path / "5L", "keep": KEPT, "teacher": path / "8L", "output": path}
    assert "which the output is made from: give another --output" in line(OutputError, run, overwrite=True, **settings)


def test_two_sweeps_do_not_write_to_one_folder(run: Any, tmp_path: Path) -> None:
    with Journal(tmp_path / "sweep", {}):
        assert "another sweep is writing to" in line(OutputError, run)


def test_a_file_that_was_written_again_has_another_fingerprint(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "student", tmp_path / "student")
    before = fingerprint(read_checkpoint(tmp_path / "student"))
    os.utime(tmp_path / "student" / "model.safetensors", ns=(1, 1))
    assert fingerprint(read_checkpoint(tmp_path / "student")) != before


def test_text_shorter_than_one_window_is_refused(run: Any, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("w3 w4 w5")
    message = line(DataError, run, data=[str(tmp_path / "short.txt")])
    assert "holds 4 tokens, less than one window of 16: give more text, or a shorter --sequence-length" in message


def test_a_calibration_text_that_is_too_short_is_named(run: Any, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("w3 w4 w5")
    message = line(DataError, run, order=["greedy"], calibration=[str(tmp_path / "short.txt")])
    assert message.startswith("--calibration ")


def test_windows_longer_than_the_teacher_has_positions_are_refused(run: Any) -> None:
    assert "--sequence-length 17 is beyond the 16 positions" in line(BoomerangError, run, sequence_length=17)


def test_a_stride_that_would_leave_text_out_is_refused(run: Any) -> None:
    assert "--stride 17 would leave text out" in line(DataError, run, stride=17)


def test_nothing_to_score_on_is_refused(run: Any) -> None:
    assert "give --data or --tasks, or --dry-run" in line(DataError, run, data=[])


@pytest.mark.parametrize(("settings", "flag"), [
    ({"max_perplexity": 9.0}, "--max-perplexity"), ({"max_kl": 0.0}, "--max-kl"), ({"baseline": True}, "--baseline"),
    ({"speed": True}, "--speed"), ({"order": ["exact"]}, "--order exact"),
])  # fmt: skip
def test_what_needs_text_says_so(run: Any, settings: dict[str, Any], flag: str) -> None:
    assert line(DataError, run, data=[], **settings).startswith(flag)


def test_text_that_does_not_exist_is_refused(run: Any) -> None:
    assert line(DataError, run, data=["missing.txt"]).startswith("--data missing.txt does not exist")


def test_an_order_file_of_another_student_is_refused(run: Any, tmp_path: Path) -> None:
    order = {"teacher_layers": 8, "copied_teacher_layers": [0, 4], "patched_blocks": [[], [0], [0, 1]]}
    (tmp_path / "order.json").write_text(json.dumps(order))
    message = line(SelectionError, run, order=[str(tmp_path / "order.json")])
    assert "is for another student: it keeps [0, 4] of 8 layers, this one keeps [0, 2, 4, 5, 7] of 8" in message


def test_a_size_that_the_pair_does_not_have_is_refused(run: Any) -> None:
    assert "--layers 4 is out of range" in line(SelectionError, run, layers=[4])


def test_a_search_out_of_reach_says_how_long_it_would_take(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{EVALUATION}.estimate_exact_seconds", lambda *_: 36_000.0)
    message = line(ScoringError, run, order=["exact"])
    assert "scores 8 sets of blocks on 13 windows, about 10 hours on this device: --yes starts it" in message


def test_a_search_out_of_reach_is_started_with_yes(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{EVALUATION}.estimate_exact_seconds", lambda *_: 36_000.0)
    assert len(run(order=["exact"], yes=True).rows) == N + 1


@pytest.mark.parametrize(
    ("seconds", "shown"), [(9, "9 seconds"), (600, "10 minutes"), (1e6, "12 days"), (1e9, "32 years")]
)
def test_durations_are_shown_in_a_unit_that_fits(seconds: float, shown: str) -> None:
    assert show_duration(seconds) == shown


def test_scores_that_are_no_numbers_are_refused(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Scorer, variants: Any, windows: Any, rows: range, *_: Any) -> Any:
        return {variant: [WindowSums(float("nan"), 0.0)] * len(rows) for variant in variants}

    monkeypatch.setattr(Scorer, "score", broken)
    assert "blocks none patched gives scores that are no numbers: give --dtype float32" in line(ScoringError, run)


def test_models_that_the_disk_has_no_room_for_are_refused_before_anything_is_written(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("boomerang_cli.engine.evaluation.sweep_models.shutil.disk_usage", lambda _: usage)
    message = line(OutputError, run, write=True)
    assert "for 4 models" in message
    assert "has 1,000 free" in message
    assert not (tmp_path / "sweep").exists()


def test_a_device_that_is_not_there_is_refused(run: Any) -> None:
    assert "--device cuda is not there" in line(ScoringError, run, device="cuda")


def test_tasks_without_lm_eval_say_what_to_install(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    assert "pip install 'boomerang-cli[eval]'" in line(ScoringError, run, tasks=["lambada_openai"])


def test_masked_language_models_are_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    for name, depth in (("teacher", 4), ("student", 2)):
        config = BertConfig(vocab_size=64, hidden_size=16, num_hidden_layers=depth, num_attention_heads=2,
                            intermediate_size=16, max_position_embeddings=16)  # fmt: skip
        BertForMaskedLM(config).save_pretrained(tmp_path / name)
    from tiny_models import make_tokenizer

    make_tokenizer().save_pretrained(tmp_path / "teacher")
    (tmp_path / "text.txt").write_text("w3 " * 40)
    with pytest.raises(BoomerangError, match="predicts masked words"):
        sweep(
            student=tmp_path / "student",
            teacher=tmp_path / "teacher",
            keep=[0, 2],
            data=[str(tmp_path / "text.txt")],
            output=tmp_path / "sweep",
        )
