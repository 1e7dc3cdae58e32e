"""The files of a model folder, each without what is private in it, where there is anything."""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from boomerang_cli.engine.checkpoint.json_files import read_json_value
from boomerang_cli.engine.checkpoint.tensors import LENGTH_BYTES
from boomerang_cli.engine.errors import CheckpointError
from boomerang_cli.engine.output.plan import as_json_text
from boomerang_cli.engine.publishing.cleaner import Cleaner

_TEXTS = (".jinja", ".md", ".rst", ".txt", "")
_WORD_LISTS = {"vocab.txt", "merges.txt", "dict.txt", "entity_vocab.txt", "target_vocab.txt"}
"""A word in them may look like anything."""
_NOTHING_PRIVATE = re.compile(rb'\{\s*"__metadata__"\s*:\s*\{\s*"format"\s*:\s*"\w+"\s*\}')


@dataclass(frozen=True)
class Header:
    """What a file of weights should begin with, in place of its own ``length`` bytes of length and header."""

    text: bytes
    length: int

    def write(self, source: Path, target: Path) -> None:
        """Write a copy of ``source`` that begins so."""
        with source.open("rb") as weights, target.open("wb") as output:
            weights.seek(self.length)
            output.write(self.text)
            shutil.copyfileobj(weights, output, 2**20)


def clean_header(path: Path, cleaner: Cleaner) -> Header | None:
    """Return the header of a checked file of weights without what is private; None where nothing is."""
    with path.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(LENGTH_BYTES))
        text = opened.read(length)
    if b"__metadata__" not in text or _NOTHING_PRIVATE.match(text):
        return None
    header = json.loads(text)
    metadata = header.get("__metadata__")
    cleaned = cleaner.json(path.name, metadata)
    if cleaned is metadata:
        return None
    written = json.dumps({**header, "__metadata__": cleaned}, separators=(",", ":"), ensure_ascii=False).encode()
    written += b" " * (-len(written) % 8)
    return Header(struct.pack("<Q", len(written)) + written, LENGTH_BYTES + length)


def clean_texts(folder: Path, names: Iterable[str], cleaner: Cleaner) -> dict[str, str]:
    """Return those of these files, by name, that have to be sent otherwise than they are.

    Raises:
        CheckpointError: one is not JSON, as it should be, or what is private stands where it cannot be taken out.
    """
    found = {name: _clean_text(folder / name, name, cleaner) for name in names}
    return {name: text for name, text in found.items() if text is not None}


def _clean_text(path: Path, name: str, cleaner: Cleaner) -> str | None:
    if path.suffix == ".json":
        content = read_json_value(path)
        cleaned = cleaner.json(name, content)
        return None if cleaned is content else as_json_text(cleaned)
    if path.suffix == ".jsonl":
        return _clean_lines(path, name, cleaner)
    if path.name in _WORD_LISTS:
        return None
    data = path.read_bytes()
    if path.suffix in _TEXTS:
        text = data.decode("utf-8", "surrogateescape")
        cleaned = (cleaner.card if path.name == "README.md" else cleaner.text)(name, text)
        return None if cleaned == text else cleaned
    if cleaner.names_this_machine(data):
        raise CheckpointError(
            f"{path} holds a path of this disk or a token, and cannot be sent without it: make it anew, or leave it "
            "out where tokenizer.json stands beside it"
        )
    return None


def _clean_lines(path: Path, name: str, cleaner: Cleaner) -> str | None:
    lines = path.read_text("utf-8", "replace").splitlines()
    try:
        records = [json.loads(line) for line in lines]
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON, line by line: {error}") from None
    cleaned = [cleaner.json(name, record) for record in records]
    if all(one is other for one, other in zip(records, cleaned, strict=True)):
        return None
    return "".join(json.dumps(record) + "\n" for record in cleaned)
