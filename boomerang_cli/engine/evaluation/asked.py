"""What a sweep asks of models beside scoring text: tasks of lm-eval and prompts, and how both are put to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint.files import as_utf8
from boomerang_cli.engine.errors import ScoringError, check_least, flag_of

NEW_TOKENS = 64
"""A sample is at most so long: enough to see whether a model talks, and little beside scoring a text."""


@dataclass(frozen=True)
class TaskSettings:
    """Which tasks are run, and how; ``apply_chat_template`` and what follows it mean what they mean to lm-eval.

    Attributes:
        limit: examples of each task; None is all.
        num_fewshot: examples in the context; None is the task's own number.
        batch_size: a number, or ``auto`` for lm-eval's own search.
        include_path: a folder of task definitions beside lm-eval's own.
        apply_chat_template: put each example as a chat, by the teacher's template.
        system_instruction: what the chat begins with, or without the template the context.
        gen_kwargs: ``temperature=0.7,top_p=0.8``, a JSON object, or a mapping; goes before what a task itself says.
        fewshot_as_multiturn: the context's examples are turns of the chat; None is so with the template.
    """

    tasks: Sequence[str] = ()
    limit: int | None = None
    num_fewshot: int | None = None
    batch_size: int | str = "auto"
    include_path: Path | None = None
    apply_chat_template: bool = False
    system_instruction: str | None = None
    gen_kwargs: str | Mapping[str, Any] | None = None
    fewshot_as_multiturn: bool | None = None

    def __post_init__(self) -> None:
        check_least(1, ScoringError, limit=self.limit)
        check_least(0, ScoringError, num_fewshot=self.num_fewshot)

    def given_for_tasks_alone(self) -> Iterator[str]:
        """Yield the flags of what was given and means nothing without a task."""
        alone = ("limit", "num_fewshot", "include_path", "gen_kwargs", "fewshot_as_multiturn")
        return (flag_of(name) for name in alone if getattr(self, name) not in (None, "", {}))

    @property
    def multiturn(self) -> bool:
        return self.apply_chat_template if self.fewshot_as_multiturn is None else self.fewshot_as_multiturn

    @property
    def chat(self) -> dict[str, Any]:
        """How tasks are put, as far as that is not lm-eval's default."""
        given = {
            "apply_chat_template": self.apply_chat_template,
            "fewshot_as_multiturn": self.multiturn,
            "system_instruction": self.system_instruction,
            "gen_kwargs": self.gen_kwargs,
        }
        return {name: value for name, value in given.items() if value}

    @property
    def key(self) -> str:
        """What of it decides the numbers."""
        chat = f",{self._chat_text}" if self.chat else ""
        return f"limit={self.limit},num_fewshot={self.num_fewshot}{chat}"

    @property
    def suffix(self) -> str:
        """What tells the files of chats from others: ``-3f2a9c10``."""
        return f"-{hashlib.sha256(self._chat_text.encode()).hexdigest()[:8]}" if self.chat else ""

    @property
    def _chat_text(self) -> str:
        return json.dumps(self.chat, sort_keys=True, default=str)


@dataclass(frozen=True)
class Asked:
    """Tasks and prompts. A system instruction is for both; prompts are put by the chat template wherever there is one.

    Attributes:
        prompts: that every size continues, each once.

    Raises:
        ScoringError: a prompt or an instruction that is empty or no UTF-8, or a setting that nothing is asked with.
    """

    tasks: TaskSettings
    prompts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        system, named = self.tasks.system_instruction, {"--prompt": self.prompts}
        named["--system-instruction"] = () if system is None else (system,)
        for flag, texts in named.items():
            if any(not text.strip() for text in texts):
                raise ScoringError(f"{flag} is empty: is a variable not set?", usage=True)
            if other := [text for text in texts if as_utf8(text) != text]:
                raise ScoringError(f"{flag} {as_utf8(other[0])[:80]} is not UTF-8: write it anew", usage=True)
        if self.tasks.tasks:
            pass
        elif needless := next(self.tasks.given_for_tasks_alone(), None):
            raise ScoringError(f"{needless} is for tasks of lm-eval: give --tasks, or leave it out", usage=True)
        elif (system or self.tasks.apply_chat_template) and not self.prompts:
            flag = "--system-instruction" if system else "--apply-chat-template"
            raise ScoringError(
                f"{flag} is for tasks and prompts: give --tasks or --prompt, or leave it out", usage=True
            )
        if self.tasks.fewshot_as_multiturn and not self.tasks.apply_chat_template:
            raise ScoringError(
                "--fewshot-as-multiturn makes turns of a chat: give --apply-chat-template, too", usage=True
            )

    def as_json(self) -> dict[str, Any]:
        """Return what ``results.json`` tells of it: what was given alone."""
        told: dict[str, Any] = {"prompts": list(self.prompts), "new_tokens": NEW_TOKENS} if self.prompts else {}
        if self.tasks.tasks:
            told |= {"tasks": list(self.tasks.tasks), "limit": self.tasks.limit, "num_fewshot": self.tasks.num_fewshot}
        return {name: value for name, value in {**told, **self.tasks.chat}.items() if value is not None}
