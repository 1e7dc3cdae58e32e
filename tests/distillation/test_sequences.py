"""Sequences: exact packing, their order, and how many a text gives."""

from __future__ import annotations

import pickle
from itertools import chain
from pathlib import Path

import pytest
import torch
from stories import DOCUMENTS, LENGTH, SEQUENCES, TOKENIZER, documents, make_tokenizer, packed, rows, tokens_of
from torch.utils.data import DataLoader

from boomerang_cli.engine.distillation import stream
from boomerang_cli.engine.distillation.data import find_sources
from boomerang_cli.engine.distillation.sequences import (
    Position,
    check_enough_tokens,
    count_tokens,
    evaluation_sequences,
)
from boomerang_cli.engine.errors import DataError

# Packing


def test_sequences_are_the_documents_joined_by_end_of_text(stories: str) -> None:
    joined = tokens_of(documents(stories, seed=0))
    sequences = [row for row, _ in rows(packed(stories))]
    assert list(chain.from_iterable(sequences)) == joined[: len(joined) // LENGTH * LENGTH]


def test_the_size_of_the_tokenizers_batches_does_not_show(stories: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = rows(packed(stories))
    monkeypatch.setattr(f"{SEQUENCES}.TOKENIZED_CHARACTERS", 1)
    assert rows(packed(stories)) == expected


def test_each_sequence_begins_with_what_the_tokenizer_begins_with(stories: str) -> None:
    sequences = [row for row, _ in rows(packed(stories, make_tokenizer(begin=True)))]
    assert {row[0] for row in sequences} == {1}
    joined = tokens_of(documents(stories, seed=0))
    assert list(chain.from_iterable(row[1:] for row in sequences)) == joined[: len(sequences) * (LENGTH - 1)]


def test_end_of_text_ends_each_document_and_stands_nowhere_else(stories: str) -> None:
    sequences = [row for row, _ in rows(packed(stories))]
    assert list(chain.from_iterable(sequences)).count(0) in (len(DOCUMENTS) - 1, len(DOCUMENTS))


# Order


def test_a_token_that_the_model_lacks_is_named(stories: str) -> None:
    with pytest.raises(DataError, match=r"gives the token '.+' the id \d{2,3}, and the model has 50 tokens, 0 to 49: "):
        rows(packed(stories, vocabulary_size=50))
    largest = max(tokens_of(DOCUMENTS))
    assert rows(packed(stories, vocabulary_size=largest + 1)) == rows(packed(stories))


def test_a_seed_gives_an_order_and_another_seed_another(stories: str) -> None:
    assert documents(stories, seed=1) == documents(stories, seed=1)
    assert documents(stories, seed=1) != documents(stories, seed=2)
    assert sorted(documents(stories, seed=1)) == sorted(DOCUMENTS) != documents(stories, seed=1)


def test_the_files_of_a_folder_are_shuffled_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SHUFFLE_DOCUMENTS", 0)
    for number in range(20):
        (tmp_path / f"{number:02}.txt").write_text(f"{number:02}")
    assert documents(tmp_path, seed=0) != documents(tmp_path) == sorted(documents(tmp_path, seed=0))


@pytest.mark.parametrize("bound", ["SHUFFLE_DOCUMENTS", "LOCAL_SHUFFLE_CHARACTERS"])
def test_a_small_shuffle_buffer_loses_nothing(stories: str, bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, bound, 3)
    assert sorted(documents(stories, seed=0)) == sorted(DOCUMENTS)


def test_a_loading_process_gives_the_same_sequences(stories: str) -> None:
    sequences = packed(stories)
    assert rows(DataLoader(sequences, batch_size=None, num_workers=1)) == rows(sequences)


def test_a_pickled_copy_gives_the_same_sequences(stories: str) -> None:
    sequences = packed(stories, seed=3)
    assert rows(pickle.loads(pickle.dumps(sequences))) == rows(sequences)


# Too little text


def test_tokens_are_counted_with_their_ends_and_no_further_than_asked(stories: str) -> None:
    sources = find_sources([stories]).training
    total = len(tokens_of(DOCUMENTS))
    assert count_tokens(sources, TOKENIZER, at_most=10**9) == total
    assert count_tokens(sources, TOKENIZER, at_most=total - 1) == total - 1


def test_too_little_text_is_refused_with_its_number_of_tokens(stories: str) -> None:
    sources, total = find_sources([stories]).training, len(tokens_of(DOCUMENTS))
    check_enough_tokens(sources, TOKENIZER, LENGTH, total // LENGTH)
    needed = total // LENGTH + 1
    with pytest.raises(
        DataError, match=rf"holds {total:,} tokens: {needed - 1:,} sequences, and {needed:,} are needed"
    ):
        check_enough_tokens(sources, TOKENIZER, LENGTH, needed)


def test_files_that_are_certainly_large_enough_are_not_counted(stories: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(f"{SEQUENCES}.count_tokens")
    check_enough_tokens(find_sources([stories]).training, TOKENIZER, LENGTH, 5)


def test_the_number_of_sequences_needed_is_given_and_then_reading_stops(stories: str) -> None:
    available = len(rows(packed(stories)))
    assert len(rows(packed(stories, sequences_needed=available))) == available
    with pytest.raises(DataError, match=f"holds {len(tokens_of(DOCUMENTS)):,} tokens"):
        rows(packed(stories, sequences_needed=available + 1))


def test_a_resumed_text_that_ends_early_counts_what_was_read_before(stories: str) -> None:
    start = Position(*rows(packed(stories))[10][1])
    with pytest.raises(DataError, match=f"holds {len(tokens_of(DOCUMENTS)):,} tokens"):
        rows(packed(stories, start=start, sequences_needed=10**6))


def test_repeated_text_comes_in_another_order_each_time(stories: str) -> None:
    total = len(tokens_of(DOCUMENTS))
    needed = 2 * total // LENGTH
    given = list(chain.from_iterable(row for row, _ in rows(packed(stories, repeat=True, sequences_needed=needed))))
    both = tokens_of(documents(stories, seed=0) + documents(stories, seed=1))
    assert given == both[: needed * LENGTH]


@pytest.mark.parametrize("text", ["", "a"])
def test_repeating_less_than_a_sequence_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match=r"a\.txt holds \d tokens: 0 sequences, and 1 are needed"):
        rows(packed(tmp_path / "a.txt", repeat=True))


# Evaluation


def test_evaluation_text_is_packed_in_order_and_its_last_part_dropped(stories: str) -> None:
    sequences = evaluation_sequences(find_sources(["a/b"], [stories]).evaluation, TOKENIZER, LENGTH)
    assert sequences is not None
    joined = tokens_of(DOCUMENTS)
    assert sequences.tolist() == torch.tensor(joined[: len(joined) // LENGTH * LENGTH]).view(-1, LENGTH).tolist()


def test_evaluation_sequences_begin_as_the_training_sequences_do(stories: str) -> None:
    sources = find_sources([stories], [stories])
    sequences = evaluation_sequences(sources.evaluation, make_tokenizer(begin=True), LENGTH)
    assert sequences is not None
    assert sequences.shape[1] == LENGTH
    assert set(sequences[:, 0].tolist()) == {1}


def test_evaluation_text_has_a_limit(stories: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{SEQUENCES}.EVALUATION_DOCUMENTS", 5)
    sequences = evaluation_sequences(find_sources([stories]).training, TOKENIZER, LENGTH)
    assert sequences is not None
    assert len(sequences) == 5


def test_local_text_alone_gives_no_evaluation(stories: str) -> None:
    assert evaluation_sequences(find_sources([stories]).evaluation, TOKENIZER, LENGTH) is None


def test_evaluation_text_shorter_than_a_sequence_is_refused(stories: str) -> None:
    with pytest.raises(DataError, match=r"stories\.jsonl holds [\d,]+ tokens, less than one sequence of 100,000"):
        evaluation_sequences(find_sources([stories]).training, TOKENIZER, 100_000)
