"""Datasets of the Hub, which are not there in tests."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from stories import DOCUMENTS, LENGTH, SEQUENCES, TOKENIZER, packed, refusal, rows, tokens_of
from torch.utils.data import DataLoader

from boomerang_cli.engine.distillation import data
from boomerang_cli.engine.distillation.data import HubText, find_sources
from boomerang_cli.engine.distillation.sequences import check_enough_tokens, evaluation_sequences
from boomerang_cli.engine.distillation.stream import read_documents
from boomerang_cli.engine.errors import DataError


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Serves 40 documents in place of the Hub, and lists the calls."""
    datasets = importlib.import_module("datasets")
    calls: list[Any] = []

    def load_dataset(*words: Any, **options: Any) -> Any:
        calls.append((words, options))
        return datasets.IterableDataset.from_generator(lambda: ({"text": f"{number:02}"} for number in range(40)))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(data, "HELD_OUT_DOCUMENTS", 10)
    monkeypatch.setattr(f"{SEQUENCES}.EVALUATION_DOCUMENTS", 4)
    return calls


def test_a_hub_dataset_is_streamed_with_its_config_and_revision(hub: list[Any]) -> None:
    next(read_documents(find_sources(["owner/name:20.en@v1"], ["owner/other"]).training))
    assert hub == [(("owner/name", "20.en"), {"split": "train", "streaming": True, "revision": "v1"})]


def test_rows_are_those_of_the_split_that_is_named_and_know_where_they_stand(hub: list[Any]) -> None:
    (source,) = find_sources((), (), ["owner/name:SFT:math"]).chat
    assert [*source.rows(("text",))][2] == ({"text": "02"}, "owner/name:SFT:math row 3")
    assert hub == [(("owner/name", "SFT"), {"split": "math", "streaming": True, "revision": None})]


def test_the_beginning_of_a_hub_dataset_is_held_out_for_evaluation(hub: list[Any]) -> None:
    sources = find_sources(["owner/name"])
    assert sorted(read_documents(sources.training, seed=0)) == [f"{number:02}" for number in range(10, 40)]
    evaluation = evaluation_sequences(sources.evaluation, TOKENIZER, 6)
    assert evaluation is not None
    assert evaluation.flatten().tolist() == tokens_of(["00", "01", "02", "03"])[: evaluation.numel()]


def test_with_evaluation_text_nothing_of_a_hub_dataset_is_held_out(hub: list[Any], stories: str) -> None:
    sources = find_sources(["owner/name"], [stories])
    assert len(list(read_documents(sources.training))) == 40
    assert list(read_documents(sources.evaluation)) == DOCUMENTS


def test_a_hub_dataset_reads_the_same_in_a_loading_process(hub: list[Any]) -> None:
    sequences = packed("owner/name")
    assert rows(DataLoader(sequences, batch_size=None, num_workers=1)) == rows(sequences)


def test_a_hub_dataset_that_ends_too_early_says_what_it_held(hub: list[Any]) -> None:
    with pytest.raises(
        DataError, match=r"--data owner/name holds \d+ tokens behind its first 10 documents.*--eval-data"
    ):
        rows(packed("owner/name", sequences_needed=1000))


def test_a_hub_dataset_out_of_reach_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*words: Any, **options: Any) -> Any:
        raise ConnectionError("Couldn't reach it\non the Hub")

    monkeypatch.setattr(importlib.import_module("datasets"), "load_dataset", load_dataset)
    assert "owner/name is no local file or folder" in refusal("owner/name")
    with pytest.raises(DataError, match="Couldn't reach it on the Hub"):
        check_enough_tokens([HubText("owner/name", "owner/name")], TOKENIZER, LENGTH, 1)


def test_a_hub_dataset_without_a_text_column_names_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        importlib.import_module("datasets"), "load_dataset", lambda *words, **options: [{"content": "a", "n": 1}]
    )
    source = HubText("owner/name", "owner/name")
    with pytest.raises(DataError, match=r"owner/name has no column `text` \(columns: content, n\)"):
        next(source.documents())
