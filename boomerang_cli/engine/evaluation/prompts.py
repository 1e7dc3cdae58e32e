"""Prompts as the tokens that models get: by the teacher's chat template where there is one, else as they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from boomerang_cli.engine.distillation.sequences import check_token_ids
from boomerang_cli.engine.distillation.text import positions_of
from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.evaluation.asked import NEW_TOKENS, Asked
from boomerang_cli.engine.evaluation.scoring import is_out_of_memory
from boomerang_cli.engine.models.generation import continue_greedily
from boomerang_cli.engine.models.loading import load_tokenizer
from boomerang_cli.engine.pair.pair import Pair
from boomerang_cli.engine.quiet import quiet_transformers


@dataclass(frozen=True)
class Prompt:
    """What every size continues.

    Attributes:
        text: as the user gave it.
        input_ids: with what a chat template, or else the tokenizer, puts around it.
        new_tokens: how long the continuation may become.
    """

    text: str
    input_ids: tuple[int, ...]
    new_tokens: int

    @cached_property
    def key(self) -> str:
        """A name that no other prompt has, nor the same one put in another way."""
        return _digest(json.dumps([self.text, self.input_ids, self.new_tokens]).encode())

    def continued_by(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return what a model writes behind it, greedily.

        Raises:
            ScoringError: the device has too little memory, or transformers does not take the generation config.
        """
        try:
            return continue_greedily(model, tokenizer, self.input_ids, new_tokens=self.new_tokens)
        except (ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ScoringError(f"--prompt: the teacher's generation_config.json cannot be used: {reason}") from None
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise ScoringError(f"{model.device} has too little memory for --prompt: give --dtype bfloat16") from None


@dataclass(frozen=True, eq=False)
class Questions:
    """What models are asked, ready for them.

    Attributes:
        tokenizer: the teacher's.
        identity: what decides the answers beside the prompts and the settings of tasks, which each answer's key holds.
    """

    tokenizer: PreTrainedTokenizerBase
    prompts: tuple[Prompt, ...]
    identity: Mapping[str, str | None]


def read_questions(asked: Asked, pair: Pair) -> Questions:
    """Load the teacher's tokenizer, and find out whether its chat template can put what is asked.

    Raises:
        CheckpointError: the tokenizer cannot be loaded.
        ScoringError: a chat template that is needed and not there, or that fails; a prompt that is too long.
        DataError: a prompt with tokens that the models lack.
    """
    tokenizer = load_tokenizer(pair.teacher)
    with quiet_transformers():  # which would warn of a prompt that is too long
        prompts = _read(asked, tokenizer, pair)
    config = pair.teacher.folder / "generation_config.json"
    generation = config.read_bytes() if config.is_file() else b""
    chats, writes = prompts or asked.tasks.apply_chat_template, prompts or asked.tasks.tasks
    identity = {
        "chat_template": _digest(repr(tokenizer.chat_template).encode()) if chats else None,
        "generation_config": _digest(generation) if writes else None,
    }
    return Questions(tokenizer, prompts, identity)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _read(asked: Asked, tokenizer: PreTrainedTokenizerBase, pair: Pair) -> tuple[Prompt, ...]:
    system, teacher = asked.tasks.system_instruction, pair.teacher.name
    if not tokenizer.chat_template:
        if asked.tasks.apply_chat_template or system is not None:
            flag = "--apply-chat-template" if asked.tasks.apply_chat_template else "--system-instruction"
            raise ScoringError(
                f"{flag}: {teacher} has no chat template: leave it out, or give a teacher that was trained to chat"
            )
        return tuple(_prompt(text, tokenizer(text)["input_ids"], tokenizer, pair) for text in asked.prompts)
    if asked.tasks.apply_chat_template:
        _chat("Hello", system, tokenizer, teacher)  # a task would leave out a role that the template refuses
    return tuple(_prompt(text, _chat(text, system, tokenizer, teacher), tokenizer, pair) for text in asked.prompts)


def _chat(text: str, system: str | None, tokenizer: PreTrainedTokenizerBase, teacher: str) -> list[int]:
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": text})
    try:
        encoded: Any = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True
        )
    except (TemplateError, TypeError, ValueError, LookupError) as error:
        what = "--system-instruction" if system is not None else f"--prompt {_short(text)}"
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ScoringError(f"the chat template of {teacher} does not take {what}: {reason}") from None
    return list(encoded["input_ids"])


def _prompt(text: str, input_ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, pair: Pair) -> Prompt:
    if not input_ids:
        raise ScoringError(f"--prompt {_short(text)} gives no token: give another")
    check_token_ids(input_ids, tokenizer, pair.vocabulary_size)
    positions = positions_of(pair.teacher)
    room = NEW_TOKENS if positions is None else positions - len(input_ids)
    if room < 1:
        raise ScoringError(
            f"--prompt {_short(text)} has {len(input_ids):,} tokens, and {pair.teacher.name} has {positions:,} "
            "positions: give a shorter one"
        )
    return Prompt(text, tuple(input_ids), min(NEW_TOKENS, room))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 40 else f"{line[:40]}…")
