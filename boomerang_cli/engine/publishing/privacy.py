"""What we wrote ourselves as everybody may read it: no paths of this disk, no tokens."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint.hub_reading import is_repo_id

SECRET = re.compile(
    r"\b(?:hf_|api_org_)[A-Za-z0-9]{20,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{30,}|\bsk-[A-Za-z0-9_-]{30,}"
    r"|\bAKIA[0-9A-Z]{16}\b"
)
_ROOTED = re.compile(r"(?:file://|~[\w.-]*/|/|[A-Za-z]:[\\/]|\\\\)")
"""How a path of some disk begins."""
_DATA_FILES = (".txt", ".json", ".jsonl", ".csv", ".parquet", ".arrow", ".gz", ".zst", ".safetensors", ".log")


def public(content: Any) -> Any:
    """Return what we wrote ourselves for everybody to read: a path of this disk is told by its last part alone."""
    if isinstance(content, Mapping):
        return {key: public(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [public(value) for value in content]
    if isinstance(content, str):
        text = SECRET.sub("…", content)
        is_command = text.startswith("boomerang ")
        return shlex.join(map(_last_part_of_word, _words(text))) if is_command else last_part(text)
    return content


def last_part(text: str) -> str:
    """Shorten ``/home/me/student``, ``~/student``, ``../runs/student`` and ``runs/train.txt``; all else stays."""
    if not (_ROOTED.match(text) or _is_relative_path(text)) or text in ("/", "~/"):
        return text
    path = plain(text)
    return "~" if path in homes() else re.split(r"[\\/]", path)[-1]


def _last_part_of_word(word: str) -> str:
    option, equals, value = word.partition("=")
    return f"{option}={last_part(value)}" if equals and option.startswith("-") else last_part(word)


def plain(path: str) -> str:
    """Return a path without ``file://`` and without a slash behind it."""
    return re.sub(r"^file:(//)?", "", path).rstrip("\\/")


def _is_relative_path(text: str) -> bool:
    if "/" not in text or "://" in text or any(map(str.isspace, text)):
        return False
    if text.startswith(("./", "../")) or text.endswith(_DATA_FILES) or is_there(Path(text)):
        return True
    return text.count("/") > 1 and not is_repo_id(text)


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # a quotation that does not end: not our writing
        return command.split()


def is_there(path: Path) -> bool:
    """Tell whether there is anything of that name on this disk."""
    with suppress(OSError, ValueError):  # a name that is too long, or holds a zero byte
        return os.path.lexists(path)
    return False


def homes() -> set[str]:
    """Return the names of the user's home, but for the root of the disk."""
    with suppress(RuntimeError):  # a user without one
        return {str(Path.home()), str(Path.home().resolve())} - {"/"}
    return set()
