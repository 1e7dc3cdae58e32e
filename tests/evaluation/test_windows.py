"""Windows over a text: each token but the first is scored exactly once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from boomerang_cli.engine.checkpoint.checkpoint import read_checkpoint
from boomerang_cli.engine.distillation.data import find_sources
from boomerang_cli.engine.evaluation.windows import Windows, read_windows
from boomerang_cli.engine.models.head import IGNORED_LABEL
from boomerang_cli.engine.models.loading import load_tokenizer


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
