"""Tokens of a conversation, by the chat template of the tokenizer, and which of them are responses."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from boomerang_cli.engine.distillation.conversations import Conversation
from boomerang_cli.engine.errors import DataError

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
"""How a template marks what the assistant says, as transformers looks for it."""


class ChatTokens(NamedTuple):
    """A conversation as the model reads it.

    Attributes:
        response: of each token, whether it is the assistant's to say, the end of its turn included.
    """

    input_ids: list[int]
    response: list[bool]


class ChatTokenizer:
    """Writes conversations with a tokenizer's own chat template, in transformers' sandbox.

    Responses are what the template marks with ``{% generation %}``. Where it marks nothing, a response is what the
    conversation up to and with its message adds to the conversation before it and the generation prompt; both must be
    beginnings of the whole. A template may write a response otherwise when more follows (Qwen3 leaves out earlier
    thoughts): such a one is no example of what the model is to say, and does not count.

    Raises:
        DataError: there is no template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        try:
            template: str = tokenizer.get_chat_template()
        except ValueError:
            raise DataError(
                f"{tokenizer.name_or_path} has no chat template, which --sft-data is written with: put a "
                "chat_template.jinja into its folder, or leave out --sft-data"
            ) from None
        self._marks_responses = tokenizer.is_fast and bool(_GENERATION.search(template))

    def tokens_of(self, conversation: Conversation) -> ChatTokens:
        """Return a conversation's tokens, one of which at least is a response's.

        Raises:
            DataError: the template fails on it, or does not tell where its responses are; names the row.
        """
        tokens = (self._marks_responses and self._marked(conversation)) or self._by_beginnings(conversation)
        if not any(tokens.response):
            raise DataError(
                f"{conversation.where}: the chat template of {self._tokenizer.name_or_path} writes the beginning of "
                "this conversation otherwise than the whole, so that no response can be told from its prompt: mark "
                "responses in the template with {% generation %}, or leave the row out"
            )
        return tokens

    def _marked(self, conversation: Conversation) -> ChatTokens | None:
        """Return what the marks tell; None where they are not as many as the assistant's messages.

        transformers takes a mark to the end of the conversation where its last character belongs to no token.
        """
        found = self._apply(conversation, len(conversation.messages), tokenize=True, return_assistant_tokens_mask=True)
        response = [bool(each) for each in found["assistant_masks"]]
        assistants = [index for index, each in enumerate(conversation.messages) if each["role"] == "assistant"]
        if sum(key for key, _ in groupby(response)) != len(assistants):
            return None
        if assistants[0] < conversation.prompt_messages:
            prompt = self._ids(self._apply(conversation, conversation.prompt_messages, add_generation_prompt=True))
            start = _shared(prompt, found["input_ids"])
            response[:start] = [False] * start
        return ChatTokens(found["input_ids"], response)

    def _by_beginnings(self, conversation: Conversation) -> ChatTokens:
        count = len(conversation.messages)
        whole = self._apply(conversation, count)
        input_ids = self._ids(whole)
        response = [False] * len(input_ids)
        for index in conversation.responses:
            before = self._apply(conversation, index, add_generation_prompt=True)
            is_last = index + 1 == count
            through = whole if is_last else self._apply(conversation, index + 1)
            if through.startswith(before) and whole.startswith(through):
                start = _shared(self._ids(before), input_ids)
                stop = len(input_ids) if is_last else _shared(self._ids(through), input_ids)
                response[start:stop] = [True] * (stop - start)
        return ChatTokens(input_ids, response)

    def _apply(self, conversation: Conversation, count: int, *, tokenize: bool = False, **options: Any) -> Any:
        """Return what the template makes of the first ``count`` messages: text, or tokens."""
        messages = [dict(message) for message in conversation.messages[:count]]
        options["tools"] = [dict(tool) for tool in conversation.tools] or None
        try:
            return self._tokenizer.apply_chat_template(messages, tokenize=tokenize, return_dict=tokenize, **options)
        except Exception as error:  # a template is a program of its own, and raises whatever it likes
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise DataError(
                f"{conversation.where}: the chat template of {self._tokenizer.name_or_path} fails: {reason}; mend the "
                "row or the template, or leave the row out"
            ) from None

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)[
            "input_ids"
        ]
        return found


def _shared(beginning: list[int], input_ids: list[int]) -> int:
    """Return how many tokens the two begin with alike.

    Fewer than ``beginning`` has if a token reaches over its end: what is behind decides how that is written.
    """
    pairs = enumerate(zip(beginning, input_ids, strict=False))
    return next((index for index, (ours, theirs) in pairs if ours != theirs), min(len(beginning), len(input_ids)))
