"""What a sweep refuses before it scores."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from sweeping import EVALUATION, N, line

from boomerang_cli.engine.errors import BoomerangError, DataError, OutputError, ScoringError, SelectionError
from boomerang_cli.engine.evaluation.paired import WindowSums
from boomerang_cli.engine.evaluation.scoring import Scorer
from boomerang_cli.engine.evaluation.search_cost import SearchCost
from boomerang_cli.engine.sizes import show_duration
from boomerang_cli.engine.sweep import sweep


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
    assert "give --data, --tasks or --prompt, or --dry-run" in line(DataError, run, data=[])


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
    monkeypatch.setattr(f"{EVALUATION}.fit_search", lambda *_: SearchCost(1, 36_000.0, 2**20))
    message = line(ScoringError, run, order=["exact"])
    assert "scores 8 sets of blocks on 13 windows, about 10 hours on this device: --yes starts it" in message


def test_a_search_out_of_reach_is_started_with_yes(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{EVALUATION}.fit_search", lambda *_: SearchCost(1, 36_000.0, 2**20))
    assert len(run(order=["exact"], yes=True).rows) == N + 1


@pytest.mark.parametrize(
    ("seconds", "shown"), [(9, "9 seconds"), (600, "10 minutes"), (1e6, "12 days"), (1e9, "32 years")]
)
def test_durations_are_shown_in_a_unit_that_fits(seconds: float, shown: str) -> None:
    assert show_duration(seconds) == shown


def test_scores_that_are_no_numbers_are_refused(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Scorer, variants: Any, windows: Any, rows: range, *_: Any, **__: Any) -> Any:
        return {variant: [WindowSums(float("nan"), 0.0, 0.0, 0.0)] * len(rows) for variant in variants}

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
