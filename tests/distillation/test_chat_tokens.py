"""Tokens of conversations: which of them are the assistant's to say, by marks or by beginnings."""

from __future__ import annotations

from typing import Any

import pytest
from chats import ASSISTANT, END, MARKED, TEMPLATE, USER, chat_tokenizer, words
from stories import make_tokenizer

from boomerang_cli.engine.distillation.chat_tokens import ChatTokenizer
from boomerang_cli.engine.distillation.conversations import Conversation, conversation_of
from boomerang_cli.engine.errors import DataError


def conversation(*contents: str, prompt: int = 0) -> Conversation:
    roles = ["user", "assistant"] * len(contents)
    messages = tuple({"role": role, "content": content} for role, content in zip(roles, contents, strict=False))
    return Conversation(messages, prompt, "chats.jsonl line 7")


def responses(template: str, *contents: str, prompt: int = 0) -> list[str]:
    """Return the words that count, with `|` where some do not."""
    tokenizer = chat_tokenizer(template)
    tokens = ChatTokenizer(tokenizer).tokens_of(conversation(*contents, prompt=prompt))
    ids = [index if counts else None for index, counts in zip(*tokens, strict=True)]
    shown = " ".join("|" if each is None else tokenizer.convert_ids_to_tokens(each) for each in ids)
    return [part.strip() for part in shown.split("|") if part.strip()]


@pytest.mark.parametrize("template", [TEMPLATE, MARKED])
def test_a_response_counts_from_behind_the_generation_prompt_to_the_end_of_its_turn(template: str) -> None:
    assert responses(template, words(3, 4), words(5, 6)) == [f"w5 w6 {END}"]


LOOSE = MARKED.replace(f"{END}{{% endgen", f"{END} {{% endgen").replace("endgeneration %} ", "endgeneration %}")


@pytest.mark.parametrize("template", [TEMPLATE, MARKED, LOOSE])
def test_every_response_of_a_conversation_counts_but_those_in_a_prompt(template: str) -> None:
    turns = (words(3), words(4), words(5), words(6))
    assert responses(template, *turns) == [f"w4 {END}", f"w6 {END}"]
    assert responses(template, *turns, prompt=3) == [f"w6 {END}"]


def test_the_tokens_are_the_templates_without_anything_added() -> None:
    tokens = ChatTokenizer(chat_tokenizer()).tokens_of(conversation("w3", "w4"))
    assert chat_tokenizer().convert_ids_to_tokens(tokens.input_ids) == [USER, "w3", END, ASSISTANT, "w4", END]


def test_tools_are_given_to_the_template() -> None:
    tokenizer = chat_tokenizer("{% if tools %}{{ tools[0].name }} {% endif %}" + TEMPLATE)
    row = {"prompt": "w3", "completion": "w4", "tools": [{"name": "w58"}]}
    tokens = ChatTokenizer(tokenizer).tokens_of(conversation_of(row, "here"))
    assert tokens.input_ids == [58, 60, 3, 62, 61, 4, 62]
    assert tokens.response == [False] * 5 + [True] * 2


def test_a_token_that_reaches_over_the_border_counts() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        TEMPLATE.replace(USER, "u").replace(ASSISTANT, "a").replace(END, "e").replace("a ", "a th")
    )
    tokens = ChatTokenizer(tokenizer).tokens_of(conversation("x", "e mole"))
    counted = [index for index, counts in zip(*tokens, strict=True) if counts]
    assert tokenizer.decode(counted).lstrip() in ("the mole e ", "he mole e ")
    assert len(tokens.input_ids) == len(tokenizer("u x e a the mole e ")["input_ids"])


FORGETFUL = (
    "{% for message in messages %}{{ 'w60 ' if message.role == 'user' else 'w61 ' }}"
    "{% if message.role == 'assistant' and loop.last %}w59 {% endif %}{{ message.content }} w62 {% endfor %}"
    "{% if add_generation_prompt %}w61 {% endif %}"
)


def test_earlier_responses_that_the_template_writes_otherwise_do_not_count() -> None:
    assert responses(FORGETFUL, words(3), words(4), words(5), words(6)) == [f"w59 w6 {END}"]


def refusal(template: str | None, **row: Any) -> str:
    with pytest.raises(DataError) as error:
        ChatTokenizer(chat_tokenizer(template)).tokens_of(conversation_of(row, "chats.jsonl line 7"))
    return str(error.value)


def test_a_tokenizer_without_a_template_is_refused() -> None:
    assert "has no chat template, which --sft-data is written with" in refusal(None, prompt="w3", completion="w4")


@pytest.mark.parametrize("template", ["{{ raise_exception('roles must alternate') }}", "{{ messages[0].x.y }}"])
def test_a_template_that_fails_on_a_row_says_which_and_why(template: str) -> None:
    found = refusal(template, prompt="w3", completion="w4")
    assert found.startswith("chats.jsonl line 7: the chat template of ")
    assert "roles must alternate" in found or "has no attribute" in found


@pytest.mark.parametrize("template", ["{{ ''.__class__.__mro__ }}", "{% for _ in range(10 ** 9) %}{% endfor %}"])
def test_a_template_runs_in_a_sandbox(template: str) -> None:
    found = refusal(template, prompt="w3", completion="w4")
    assert "fails: access to attribute '__class__' of 'str' object is unsafe" in found or "Range too big" in found


def test_a_template_whose_whole_begins_otherwise_is_refused() -> None:
    found = refusal("{{ messages | length }}{{ messages[-1].content }}", prompt="w3", completion="w4")
    assert "line 7: the chat template of " in found
    assert "mark responses in the template with {% generation %}" in found
