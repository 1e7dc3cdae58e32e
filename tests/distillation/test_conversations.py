"""Rows of chat data: every shape that datasets have, and rows that hold no conversation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chats import write_rows
from stories import write_parquet

from boomerang_cli.engine.distillation.conversations import ChatData, Conversation, conversation_of
from boomerang_cli.engine.distillation.data import HubText, find_sources
from boomerang_cli.engine.errors import DataError

ASK, ANSWER = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}
SYSTEM = {"role": "system", "content": "Be short."}

SHAPES: dict[str, dict[str, Any]] = {
    "messages": {"messages": [ASK, ANSWER]},
    "prompt and completion": {"prompt": "Why?", "completion": "So."},
    "input and output": {"input": "Why?", "output": "So."},
    "question and answer": {"question": "Why?", "answer": "So.", "id": 3},
    "messages and messages": {"prompt": [ASK], "completion": [ANSWER]},
    "messages and text": {"input": [ASK], "output": "So."},
    "from and value": {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
    "a table's empty keys": {"messages": [{**ASK, "tool_calls": None}, ANSWER], "prompt": None},
    "messages beside their prompt": {"prompt": "Why?", "messages": [ASK, ANSWER]},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_messages(shape: str) -> None:
    found = conversation_of(SHAPES[shape], "here")
    assert (found.messages, found.responses) == ((ASK, ANSWER), [1])


def test_assistants_in_a_prompt_do_not_count_and_all_in_messages_do() -> None:
    turns = [ASK, ANSWER, ASK, ANSWER]
    assert conversation_of({"messages": turns}, "here").responses == [1, 3]
    assert conversation_of({"prompt": turns[:3], "completion": turns[3:]}, "here").responses == [3]


@pytest.mark.parametrize(
    ("row", "columns"),
    [({"q": "Why?", "a": "So."}, ("q", "a")), ({"chat": [ASK, ANSWER], "messages": "no"}, ("chat",))],
)
def test_columns_can_be_named(row: dict[str, Any], columns: tuple[str, ...]) -> None:
    assert conversation_of(row, "here", columns) == Conversation((ASK, ANSWER), len(columns) - 1, "here")


BAD: dict[str, tuple[Any, str]] = {
    "no object": ([1], "here is not an object"),
    "other columns": (
        {"q": "x", "a": "y"},
        r"here has none of messages, conversations, prompt/completion, .* \(columns: q, a\)",
    ),
    "an instruction": ({"instruction": "x", "input": "", "output": "y"}, "here has an `instruction` beside `input`"),
    "no assistant": ({"messages": [ASK]}, r"here has no response in `messages`, .* \(roles: user\)"),
    "an empty answer": ({"question": "x", "answer": ""}, "here has no response in `answer`"),
    "an empty prompt": ({"prompt": "", "completion": "y"}, "here has no prompt in `prompt`"),
    "a number": ({"prompt": "x", "completion": 3}, "here, column `completion` is int: give text, or a list"),
    "no role": ({"messages": [{"text": "x"}]}, r"message 1 has no role \(keys: text\)"),
    "text for messages": ({"messages": "x"}, "column `messages` is text: give a list of messages"),
    "a message of text": ({"messages": ["x"]}, "column `messages`, message 1 is str"),
    "an unknown speaker": ({"conversations": [{"from": "bing", "value": "x"}]}, "message 1 is from 'bing'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_row_that_holds_no_conversation_is_refused(case: str) -> None:
    row, message = BAD[case]
    with pytest.raises(DataError, match=message):
        conversation_of(row, "here")


def test_a_missing_column_that_was_named_is_refused() -> None:
    with pytest.raises(DataError, match=r"here has none of q/a \(columns: prompt\): name what"):
        conversation_of({"prompt": "x"}, "here", ("q", "a"))


def read(path: Path) -> list[Conversation]:
    return list(ChatData(*find_sources((), (), [str(path)]).chat).documents())


def test_tools_go_with_a_conversation_in_either_form() -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]
    for given in (tools, '[{"type": "function", "function": {"name": "add"}}]'):
        assert conversation_of({**SHAPES["messages"], "tools": given}, "here").tools == tuple(tools)
    with pytest.raises(DataError, match="here has `tools` that are no list of objects"):
        conversation_of({**SHAPES["messages"], "tools": "add"}, "here")


def test_files_of_every_kind_are_read_and_say_where_a_row_stands(tmp_path: Path) -> None:
    rows = [{"messages": [SYSTEM, ASK, {**ANSWER, "content": str(number)}]} for number in range(3)]
    jsonl = read(write_rows(tmp_path / "a.jsonl", rows))
    parquet = read(write_parquet(tmp_path / "b.parquet", {"messages": [row["messages"] for row in rows]}))
    assert [each.messages for each in jsonl] == [each.messages for each in parquet]
    assert [each.where.rpartition("/")[2] for each in (jsonl[2], parquet[2])] == ["a.jsonl line 3", "b.parquet row 3"]


def test_half_characters_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "\\ud83d", "completion": "x"}')
    assert read(tmp_path / "a.jsonl")[0].messages[0]["content"] == "?"


def test_plain_text_is_refused_and_a_folder_leaves_it_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"--sft-data .*a\.txt holds no rows: convert it to one of .jsonl, "):
        read(tmp_path / "a.txt")
    write_rows(tmp_path / "b.jsonl", [SHAPES["messages"]])
    sources = find_sources((), (), [str(tmp_path)])
    assert len(list(ChatData(*sources.chat).documents())) == 1
    assert "left out 1 .txt file" in sources.notes[0]


@pytest.mark.parametrize(
    ("name", "config", "split", "revision"),
    [
        ("a/b", None, "train", None),
        ("a/b:c", "c", "train", None),
        ("a/b:c:math@v1", "c", "math", "v1"),
        ("a/b::math", None, "math", None),
    ],
)
def test_a_dataset_names_its_configuration_and_split(
    name: str, config: str | None, split: str, revision: str | None
) -> None:
    assert find_sources((), (), [name]).chat == (HubText(name, "a/b", config, revision, split=split),)
