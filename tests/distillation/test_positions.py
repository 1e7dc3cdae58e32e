"""From any position exactly the remaining sequences follow, in however many processes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import in_two_processes
from stories import DOCUMENTS, SEQUENCES, dispatched, packed, rows, write_jsonl
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from boomerang_cli.engine.distillation.sequences import Position


def test_from_any_position_exactly_the_remaining_sequences_follow(stories: str) -> None:
    options: dict[str, Any] = {"seed": 5, "repeat": True, "sequences_needed": 150}
    expected = rows(packed(stories, **options))
    assert expected[-1][1][0] > 0  # into a second epoch
    for done in range(1, len(expected), 7):
        start = Position(*json.loads(json.dumps(expected[done - 1][1])))
        assert rows(packed(stories, start=start, **options)) == expected[done:]


def test_a_document_of_many_sequences_is_resumed_in_its_middle(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [" ".join(DOCUMENTS)])
    expected = rows(packed(path))
    assert [position[1] for _, position in expected] == [0] * len(expected)
    assert rows(packed(path, start=Position(*expected[4][1]))) == expected[5:]


def test_a_loading_process_resumes_where_its_last_batch_ended(stories: str) -> None:
    expected = rows(packed(stories))
    loader = DataLoader(packed(stories), batch_size=4, num_workers=1)
    reached = next(iter(loader))["position"][-1].tolist()  # the process has read on meanwhile
    resumed = packed(stories, start=Position(*reached))
    assert rows(DataLoader(resumed, batch_size=None, num_workers=1)) == expected[4:]


def test_earlier_documents_are_not_tokenised_again(stories: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start = Position(*rows(packed(stories))[-1][1])
    tokenised: list[str] = []

    def tokenize(texts: Iterator[str], tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
        tokenised.extend(texts)
        return []

    monkeypatch.setattr(f"{SEQUENCES}.tokenize", tokenize)
    rows(packed(stories, start=start))
    assert len(tokenised) == len(DOCUMENTS) - start.document


def test_accelerate_gives_every_sequence_in_order(stories: str) -> None:
    batches = dispatched(stories, batch_size=4)
    given = [row for batch in batches for row in batch["input_ids"].tolist()]
    assert given == [row for row, _ in rows(packed(stories))][:24]


def write_what_is_given(stories: str, folder: Path) -> None:
    given = [batch["input_ids"].tolist() for batch in dispatched(stories, batch_size=3)]
    (folder / os.environ["RANK"]).write_text(json.dumps(given))


def test_two_processes_share_the_sequences_of_one(stories: str, tmp_path: Path) -> None:
    in_two_processes(write_what_is_given, stories, tmp_path)
    first, second = (json.loads((tmp_path / rank).read_text()) for rank in "01")
    given = [row for pair in zip(first, second, strict=True) for batch in pair for row in batch]
    assert given == [row for row, _ in rows(packed(stories))][:24]
