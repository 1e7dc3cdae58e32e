"""Sequences of conversations: cut, left out, sorted within a step, and gone on with behind any step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from chats import ASSISTANT, END, USER, chat_tokenizer, draw_chats, words, write_rows
from stories import write_parquet
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from boomerang_cli.engine.distillation import chat_sequences
from boomerang_cli.engine.distillation.chat_sequences import ChatPosition, ChatSequences, check_chat_rows
from boomerang_cli.engine.distillation.chat_tokens import ChatTokens
from boomerang_cli.engine.distillation.conversations import ChatData
from boomerang_cli.engine.distillation.data import find_sources
from boomerang_cli.engine.distillation.phase import Phase
from boomerang_cli.engine.errors import DataError

LENGTH = 12


def chats(
    path: Path, steps: int, batch_size: int = 4, tokenizer: PreTrainedTokenizerFast | None = None, **options: Any
) -> ChatSequences:
    phase = Phase("sft", "sft-", steps, batch_size, LENGTH, response_only=True)
    data = [ChatData(source) for source in find_sources((), (), [str(path)]).chat]
    return ChatSequences(data, tokenizer or chat_tokenizer(), phase, **options)


def read(sequences: Any) -> list[tuple[list[int], list[bool], int, list[int]]]:
    return [tuple(row[key].tolist() for key in ("input_ids", "counted", "length", "position")) for row in sequences]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "chats.jsonl", draw_chats(40))


def test_what_predicts_a_response_counts_and_padding_does_not(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": words(3, 4), "completion": words(5, 6)}])
    ((input_ids, counted, length, position),) = read(chats(path, 1, 1))
    shown = chat_tokenizer().convert_ids_to_tokens(input_ids[:length])
    assert shown == [USER, "w3", "w4", END, ASSISTANT, "w5", "w6", END]
    assert input_ids[length:] == [0] * 4
    assert counted == [False] * 4 + [True] * 3 + [False] * 5
    assert position == [0, 1, 1, 0, 0]


def test_rows_that_are_too_long_are_cut_or_left_out_and_counted(tmp_path: Path) -> None:
    long = words(*range(3, 15))
    rows = [{"prompt": "w3", "completion": long}, {"prompt": long, "completion": "w3"}]
    found = read(chats(write_rows(tmp_path / "a.jsonl", rows), 1, 2, repeat=True))
    reached = ChatPosition(*found[-1][3])
    assert (reached.sequences, reached.cut, reached.left_out) == (2, 2, 2)
    assert found[0][1:3] == ([False] * 3 + [True] * 8 + [False], LENGTH)


def test_a_response_that_is_but_the_first_token_is_predicted_by_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": "w3", "completion": "w4"}])
    sequences = chats(path, 1, 1)
    monkeypatch.setattr(sequences.chat, "tokens_of", lambda conversation: ChatTokens([4, 5], [True, False]))
    with pytest.raises(DataError, match="holds 0 rows with a response and 1 without one"):
        read(sequences)


def test_a_step_goes_from_its_longest_row_to_its_shortest_and_is_one_position(path: Path) -> None:
    found = read(chats(path, 5))
    assert len(found) == 20
    for start in range(0, 20, 4):
        step = found[start : start + 4]
        assert [each[2] for each in step] == sorted((each[2] for each in step), reverse=True)
        assert {each[3][2] for each in step} == {start + 4}


def test_behind_any_step_exactly_the_remaining_steps_follow_also_in_a_loading_process(path: Path) -> None:
    options: dict[str, Any] = {"seed": 5, "repeat": True}
    expected = read(chats(path, 25, **options))
    assert expected[-1][3][0] == 2  # into a third epoch
    for done in (1, 9, 10, 24):
        start = ChatPosition(*expected[4 * done - 1][3])
        assert read(chats(path, 25, start=start, **options)) == expected[4 * done :]
    loaded = DataLoader(chats(path, 25, start=start, **options), batch_size=None, num_workers=1)
    assert read(loaded) == expected[4 * 24 :]


def test_nothing_follows_the_last_step(path: Path) -> None:
    assert read(chats(path, 2, start=ChatPosition(0, 8, 8))) == []


@pytest.mark.parametrize("check", [check_chat_rows, read])
def test_too_few_rows_are_told_with_those_that_were_left_out(tmp_path: Path, check: Any) -> None:
    long = {"prompt": words(*range(3, 20)), "completion": "w3"}
    path = write_rows(tmp_path / "a.jsonl", [*draw_chats(3, seed=3), long])
    with pytest.raises(DataError, match=r"holds 3 rows with a response and 1 without one within 12 tokens, and 8 are"):
        check(chats(path, 2))
    with pytest.raises(DataError, match=r"holds 0 rows with a response and 1 without one within 12 tokens"):
        check(chats(write_rows(tmp_path / "a.jsonl", [long]), 2, repeat=True))


def test_only_the_first_rows_are_written_with_the_template_before_training(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_sequences, "CHECKED_ROWS", 3)
    seen: list[str] = []
    sequences = chats(path, 10)
    tokens_of = sequences.chat.tokens_of
    monkeypatch.setattr(sequences.chat, "tokens_of", lambda each: (seen.append(each.where), tokens_of(each))[1])
    check_chat_rows(sequences)
    assert len(seen) == 3
    with pytest.raises(DataError, match="holds 40 rows with a response, and 44 are needed"):
        check_chat_rows(chats(path, 11))


def test_a_token_without_a_row_in_the_embedding_is_refused(path: Path) -> None:
    with pytest.raises(DataError, match="the model has 62 tokens"):
        read(chats(path, 2, vocabulary_size=62))


def test_messages_in_a_table_are_read_like_lines(path: Path, tmp_path: Path) -> None:
    rows = draw_chats(8)
    turns = [
        [{"role": "user", "content": r["prompt"]}, {"role": "assistant", "content": r["completion"]}] for r in rows
    ]
    table = write_parquet(tmp_path / "chats.parquet", {"messages": turns})
    lines = write_rows(tmp_path / "first.jsonl", rows)
    assert torch.equal(
        torch.tensor([each[0] for each in read(chats(table, 2))]),
        torch.tensor([each[0] for each in read(chats(lines, 2))]),
    )
