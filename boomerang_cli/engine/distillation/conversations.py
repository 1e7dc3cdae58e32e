"""Conversations: rows of chat data in the shapes that datasets have, each as messages and who speaks them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from boomerang_cli.engine.distillation.data import Source
from boomerang_cli.engine.errors import DataError

MESSAGES = ("messages", "conversations")
PAIRS = (("prompt", "completion"), ("input", "output"), ("question", "answer"))
COLUMNS = (*MESSAGES, *(column for pair in PAIRS for column in pair), "instruction")
"""What is looked for in a row, unless columns are named; the first that are there count."""

TOOLS = "tools"
"""The column of functions that the assistant may call, as transformers' templates take them; a list, or JSON of it."""

_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
"""Of rows with ``from`` and ``value`` in the place of ``role`` and ``content``."""

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Conversation:
    """What a chat template is given, and which of it are responses.

    Attributes:
        messages: ``role``, ``content``, and what else a row has of them.
        prompt_messages: how many at the beginning are the prompt, in which nothing counts.
        where: the row, for an error.
        tools: what the assistant may call; empty for none.
    """

    messages: tuple[Message, ...]
    prompt_messages: int
    where: str
    tools: tuple[Mapping[str, Any], ...] = ()

    @property
    def responses(self) -> list[int]:
        """Return the indices of the messages that are to be learnt; one at least."""
        return [
            index for index in range(self.prompt_messages, len(self.messages)) if _is_response(self.messages[index])
        ]

    def __len__(self) -> int:
        """Return about how many characters it holds: what a shuffle buffer counts."""
        return sum(len(str(message.get("content") or "")) for message in self.messages)


@dataclass(frozen=True)
class ChatData:
    """Rows of conversations of one source.

    Attributes:
        columns: one with messages, or those of prompt and response; empty looks for ``COLUMNS``.
    """

    source: Source
    columns: tuple[str, ...] = ()

    @property
    def is_remote(self) -> bool:
        return self.source.is_remote

    def documents(self, shuffler: random.Random | None = None) -> Iterator[Conversation]:
        """Yield the conversations in the order of ``Source.documents``.

        Raises:
            DataError: a row cannot be read, or has no response; names it.
        """
        for row, where in self.source.rows((*(self.columns or COLUMNS), TOOLS), shuffler):
            yield conversation_of(row, where, self.columns)


def conversation_of(row: Any, where: str, columns: Sequence[str] = ()) -> Conversation:
    """Return what a row holds: messages, or a prompt and a response, each of these two text or messages.

    Text is the only message of its speaker, user or assistant. Of a response in messages the assistant's count.

    Raises:
        DataError: the row has no such columns, or no response.
    """
    if not isinstance(row, Mapping):
        raise DataError(f'{where} is not an object: each one must be like {{"messages": […]}}')
    *prompt_column, response_column = _columns_of(row, where, columns)
    if not prompt_column and isinstance(row[response_column], str):
        raise DataError(
            f"{where}, column `{response_column}` is text: give a list of messages with role and content, or name the "
            "columns of prompt and response with --sft-columns"
        )
    prompt = [each for name in prompt_column for each in _messages(row[name], "user", f"{where}, column `{name}`")]
    response = _messages(row[response_column], "assistant", f"{where}, column `{response_column}`")
    if prompt_column and not any(message.get("content") for message in prompt):
        raise DataError(f"{where} has no prompt in `{prompt_column[0]}`: mend the row, or leave it out")
    conversation = Conversation((*prompt, *response), len(prompt), where, _tools(row.get(TOOLS), where))
    if not conversation.responses:
        roles = ", ".join(dict.fromkeys(str(message["role"]) for message in response)) or "none"
        raise DataError(
            f"{where} has no response in `{response_column}`, no words of an assistant (roles: {roles}): mend the row, "
            "or leave it out"
        )
    return conversation


def _columns_of(row: Mapping[str, Any], where: str, columns: Sequence[str]) -> Sequence[str]:
    """Return the names of the columns to read: one of messages, or two of prompt and response."""
    shapes = [columns] if columns else [*((name,) for name in MESSAGES), *PAIRS]
    found = next((names for names in shapes if all(row.get(name) is not None for name in names)), None)
    if found is None:
        looked_for = ", ".join("/".join(names) for names in shapes)
        held = ", ".join(map(str, row)) or "none"
        raise DataError(
            f"{where} has none of {looked_for} (columns: {held}): name what holds prompt and response with "
            "--sft-columns PROMPT,RESPONSE, or messages with --sft-columns MESSAGES"
        )
    if not columns and found == ("input", "output") and row.get("instruction") is not None:
        raise DataError(
            f"{where} has an `instruction` beside `input`: put both into one column, and name it with --sft-columns"
        )
    return found


def _tools(value: Any, where: str) -> tuple[Mapping[str, Any], ...]:
    try:
        tools = json.loads(value) if isinstance(value, str) and value else value or []
    except ValueError:
        tools = None
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise DataError(f"{where} has `{TOOLS}` that are no list of objects: mend the row, or leave it out")
    return tuple(tools)


def _messages(value: Any, role: str, where: str) -> list[Message]:
    if isinstance(value, str):
        return [{"role": role, "content": _utf8(value)}] if value else []
    if not isinstance(value, (list, tuple)):
        raise DataError(f"{where} is {type(value).__name__}: give text, or a list of messages with role and content")
    return [_message(each, f"{where}, message {number}") for number, each in enumerate(value, start=1)]


def _message(value: Any, where: str) -> Message:
    """Return a message without keys of no value, which a table has for what another row's messages have."""
    if not isinstance(value, Mapping):
        raise DataError(f"{where} is {type(value).__name__}: give an object with role and content")
    message = {key: each for key, each in value.items() if each is not None}
    if "role" not in message and "from" in message:
        speaker, content = message.pop("from"), message.pop("value", "")
        message = {"role": _ROLES.get(speaker, speaker), "content": content, **message}
        if speaker not in _ROLES:
            raise DataError(f"{where} is from {speaker!r}: give one of {', '.join(_ROLES)}")
    if not isinstance(message.get("role"), str):
        raise DataError(f"{where} has no role (keys: {', '.join(map(str, value)) or 'none'}): give role and content")
    if isinstance(message.get("content"), str):
        message["content"] = _utf8(message["content"])
    return message


def _is_response(message: Message) -> bool:
    return message["role"] == "assistant" and bool(message.get("content") or message.get("tool_calls"))


def _utf8(text: str) -> str:
    """Return the text with half characters replaced: an escape in JSON may be one, and it has no UTF-8."""
    return text.encode(errors="replace").decode()
