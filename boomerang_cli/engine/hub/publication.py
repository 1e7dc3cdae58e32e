"""A model folder made ready for others to read: checked whole, its card written, no path of this disk in it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boomerang_cli.engine.card import CARD_FILE, is_ours, model_card
from boomerang_cli.engine.checkpoint import CONFIG_FILE, Checkpoint, open_checkpoint, read_json
from boomerang_cli.engine.companions import companions
from boomerang_cli.engine.errors import CheckpointError
from boomerang_cli.engine.families import Family, family_of
from boomerang_cli.engine.hub.reading import is_repo_id
from boomerang_cli.engine.parts import take_apart
from boomerang_cli.engine.provenance import PROVENANCE_FILE, public, student_provenance
from boomerang_cli.engine.student_config import STUDENT_CONFIG_FILE, read_student_config
from boomerang_cli.engine.weights import INDEX_FILE
from boomerang_cli.engine.writer import as_json_text

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "tekken.json")
_OWN = {CONFIG_FILE, INDEX_FILE, CARD_FILE, PROVENANCE_FILE, STUDENT_CONFIG_FILE, "metrics.jsonl"}


@dataclass(frozen=True)
class Publication:
    """What of a folder is sent.

    Attributes:
        depth: the model's number of layers.
        files: that are sent as they are.
        texts: by file name, in place of what the folder holds.
    """

    folder: Path
    depth: int
    files: tuple[Path, ...]
    texts: Mapping[str, str]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by name."""
        sizes = {path.name: path.stat().st_size for path in self.files}
        return dict(sorted({**sizes, **{name: len(text.encode()) for name, text in self.texts.items()}}.items()))

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """Yield a temporary folder of exactly what is sent; files are links."""
        with tempfile.TemporaryDirectory() as staging:
            for path in self.files:
                (Path(staging) / path.name).symlink_to(path)
            for name, text in self.texts.items():
                (Path(staging) / name).write_text(text, encoding="utf-8")
            yield Path(staging)


def prepare(folder: Path, repo_id: str, results: Sequence[Mapping[str, Any]] = ()) -> Publication:
    """Check a model folder from its headers, and decide what of it is sent.

    Args:
        results: rows of a sweep, for the card.

    Raises:
        CheckpointError, UnsupportedModelError: it is no whole model, or has no tokenizer.
    """
    checkpoint = open_checkpoint(folder)
    family = family_of(checkpoint.config, checkpoint.name)
    depth = len(take_apart(checkpoint, family).layers)
    if not any(name in checkpoint.files for name in _TOKENIZERS):
        raise CheckpointError(
            f"{folder} has no tokenizer ({', '.join(_TOKENIZERS[:3])}, …): copy the teacher's into it"
        )
    names = {tensor.file.name for tensor in checkpoint.tensors.values()}
    names |= {file.name for file in companions(checkpoint.files)} | (_OWN & checkpoint.files.keys())
    texts = _texts(checkpoint, family, repo_id, results)
    files = tuple(checkpoint.folder / name for name in sorted(names - texts.keys()))
    return Publication(folder, depth, files, texts)


def _texts(
    checkpoint: Checkpoint, family: Family, repo_id: str, results: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    folder, texts = checkpoint.folder, {}
    made: Mapping[str, Any] | None = None
    if STUDENT_CONFIG_FILE in checkpoint.files:
        made = student_provenance(checkpoint, family, read_student_config(folder))
        texts[STUDENT_CONFIG_FILE] = as_json_text(_public_student(read_json(folder / STUDENT_CONFIG_FILE)))
    if PROVENANCE_FILE in checkpoint.files:
        made = read_json(folder / PROVENANCE_FILE)
        texts[PROVENANCE_FILE] = as_json_text(public(made))
    card = folder / CARD_FILE
    if made is not None and (not card.is_file() or is_ours(card.read_text("utf-8", "replace"))):
        model_type = str(checkpoint.config["model_type"])
        try:
            texts[CARD_FILE] = model_card(made, name=repo_id, model_type=model_type, results=results)
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
            raise CheckpointError(
                f"{folder / PROVENANCE_FILE} does not tell how the model was made: {error!r}"
            ) from error
    return texts


def _public_student(content: dict[str, Any]) -> Any:
    """Leave a teacher of this disk out: under its name alone nobody would find it."""
    is_hub = isinstance(content.get("teacher"), str) and is_repo_id(content["teacher"])
    return public(content if is_hub else {key: value for key, value in content.items() if key != "teacher"})
