"""What a training is made of, by content: it is known again wherever its files were moved, and no others pass for it.

Weights are compared by pieces of every tensor, as whole ones take minutes to read. Whatever makes other weights, such
as another seed, another checkpoint, or a merged adapter, changes nearly all values of a tensor, so that pieces do not
miss it; small tensors, norms and biases, are whole in them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
from boomerang_cli.engine.checkpoint.content_digest import config_digest
from boomerang_cli.engine.distillation.data import HubText, Source, TextSources
from boomerang_cli.engine.errors import TrainingError
from boomerang_cli.engine.models.loading import TOKENIZER_FILES
from boomerang_cli.engine.pair.pair import Pair

_PIECE_BYTES = 4096

Contents = Mapping[str, Mapping[str, Any]]
"""Of each thing that a training is made of, what it holds, in parts that can be named where they differ."""


def contents_of(pair: Pair, sources: TextSources) -> Contents:
    """Return the contents of both models and of the text, as JSON can hold them.

    Raises:
        TrainingError: a file cannot be read.
    """
    return {
        "student-init": {"kept layers": list(pair.layer_map.kept), **_of_model(pair.student)},
        "teacher": {**_of_model(pair.teacher), "tokenizer": _of_tokenizer(pair.teacher)},
        "text": {
            "--data": [_of_text(source) for source in sources.training],
            "--eval-data": [_of_text(source) for source in sources.evaluation],
            "--sft-data": [_of_text(source) for source in sources.chat],
        },
    }


def datasets_of(contents: Contents) -> list[str]:
    """Return the Hub ids of the datasets that were trained on, each once."""
    read = [*contents["text"]["--data"], *contents["text"]["--sft-data"]]
    return list(dict.fromkeys(each[0] for each in read if isinstance(each, list)))


def check_same_contents(ours: Contents, saved: Any) -> None:
    """Refuse to go on with a training of other contents.

    Args:
        saved: what the training recorded; None if it was begun by a version that recorded paths alone.

    Raises:
        TrainingError: names what differs.
    """
    if not isinstance(saved, dict):
        raise TrainingError(
            "the run to resume was begun by a version that did not record what it is made of: go on with that version, "
            "or start anew with --overwrite"
        )
    for name, parts in ours.items():
        before = saved.get(name, {})
        if differences := [part for part, value in parts.items() if before.get(part) != value]:
            shown = ", ".join(_difference(part, parts[part], before.get(part)) for part in differences)
            raise TrainingError(
                f"the run to resume had another {name}: {shown}; give the one that it was begun with, or start anew "
                "with --overwrite"
            )


def _difference(part: str, now: Any, before: Any) -> str:
    if part == "kept layers" and isinstance(before, list):
        return f"{part} {','.join(map(str, now))} (was {','.join(map(str, before))})"
    return f"other {part}"


def _of_model(model: Checkpoint) -> dict[str, str]:
    tensors = sorted(model.tensors.values(), key=lambda tensor: tensor.name)
    weights = hashlib.sha256()
    with ExitStack() as opened:
        files = {path: opened.enter_context(_open(path)) for path in {Path(str(tensor.file)) for tensor in tensors}}
        for tensor in tensors:
            _add_pieces(weights, files[Path(str(tensor.file))], tensor.start, tensor.stop)
    return {
        "configuration": config_digest(model)[:16],
        "tensors": _digest([(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors]),
        "weights": weights.hexdigest()[:16],
    }


def _of_tokenizer(model: Checkpoint) -> str:
    digest = hashlib.sha256()
    for name in sorted(model.files):
        if name.endswith(TOKENIZER_FILES):
            with _open(model.folder / name) as file:
                digest.update(f"{name}\n".encode() + file.read())
    return digest.hexdigest()[:16]


def _of_text(source: Source) -> Any:
    """Return which dataset it is, or what the files are, by their names below the folder that was given."""
    if isinstance(source, HubText):
        return [source.repo_id, source.config, source.split, source.revision]
    digest = hashlib.sha256()
    for path in source.files:
        with _open(path) as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(f"{os.path.relpath(path, source.name)} {size}\n".encode(errors="surrogateescape"))
            _add_pieces(digest, file, 0, size)
    return digest.hexdigest()[:16]


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}") from None


def _add_pieces(digest: Any, file: BinaryIO, start: int, stop: int) -> None:
    """Add a piece of the beginning, of the middle and of the end."""
    last = max(start, stop - _PIECE_BYTES)
    for position in sorted({start, (start + last) // 2, last}):
        file.seek(position)
        digest.update(file.read(min(_PIECE_BYTES, stop - position)))


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
