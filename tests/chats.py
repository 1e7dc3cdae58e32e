"""Chats in the words of the tiny models: a template, a project with a chat teacher, and rows."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from distilling import make_project
from tiny_models import make_tokenizer
from transformers import PreTrainedTokenizerFast

USER, ASSISTANT, END = "w60", "w61", "w62"
TEMPLATE = (
    "{% for message in messages %}"
    f"{{{{ '{USER} ' if message.role == 'user' else '{ASSISTANT} ' }}}}{{{{ message.content }}}} {END} "
    f"{{% endfor %}}{{% if add_generation_prompt %}}{ASSISTANT} {{% endif %}}"
)
MARKED = (
    "{% for message in messages %}{% if message.role == 'assistant' %}"
    f"{ASSISTANT} {{% generation %}}{{{{ message.content }}}} {END}{{% endgeneration %}} "
    f"{{% else %}}{USER} {{{{ message.content }}}} {END} {{% endif %}}{{% endfor %}}"
    f"{{% if add_generation_prompt %}}{ASSISTANT} {{% endif %}}"
)
CHAT = ("--sft-data", "chats.jsonl", "--sft-steps", "4")


def chat_tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def words(*numbers: int) -> str:
    return " ".join(f"w{number}" for number in numbers)


def draw_chats(count: int, seed: int = 0) -> list[dict[str, str]]:
    draw = random.Random(seed)
    return [
        {key: words(*(draw.randrange(3, 60) for _ in range(draw.randrange(1, 9)))) for key in ("prompt", "completion")}
        for _ in range(count)
    ]


def write_rows(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_chat_project(folder: Path, **changes: Any) -> Path:
    """Write what ``distilling.make_project`` does, a template into ``teacher``, and ``chats.jsonl``."""
    make_project(folder, **changes)
    (folder / "teacher" / "chat_template.jinja").write_text(TEMPLATE)
    write_rows(folder / "chats.jsonl", draw_chats(40))
    return folder
