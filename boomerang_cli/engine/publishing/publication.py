"""A model folder made ready for others to read: checked whole, its card written, nothing private in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint, open_checkpoint
from boomerang_cli.engine.checkpoint.companions import companions
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.family_of import family_of
from boomerang_cli.engine.checkpoint.json_files import read_json
from boomerang_cli.engine.checkpoint.parts import take_apart
from boomerang_cli.engine.checkpoint.weights import CONFIG_FILE, entry_file, is_index
from boomerang_cli.engine.errors import CheckpointError, OutputError
from boomerang_cli.engine.output.output_folder import temporary_folder
from boomerang_cli.engine.output.plan import as_json_text
from boomerang_cli.engine.pair.pair import Pair, check_pair
from boomerang_cli.engine.pair.student_config import STUDENT_CONFIG_FILE, is_student, read_student_config
from boomerang_cli.engine.publishing.card import CARD_FILE, NO_RESULTS, Results, is_ours, model_card
from boomerang_cli.engine.publishing.clean_files import Header, clean_header, clean_texts
from boomerang_cli.engine.publishing.cleaner import Cleaner
from boomerang_cli.engine.publishing.privacy import public
from boomerang_cli.engine.publishing.provenance import PROVENANCE_FILE, student_provenance
from boomerang_cli.engine.publishing.public_teacher import WARNING, is_for_all, is_named_for_all, made_with_teacher

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "tekken.json")
_OWN = {CONFIG_FILE, CARD_FILE, PROVENANCE_FILE, STUDENT_CONFIG_FILE, "metrics.jsonl"}


@dataclass(frozen=True)
class Publication:
    """What of a folder is sent.

    Attributes:
        depth: the model's number of layers.
        config: the content of its ``config.json``.
        files: that are sent as they are, by name.
        texts: by file name, in place of what the folder holds.
        headers: by name, in place of those that the folder's files of weights begin with.
        removed: what stands in the folder and is private, so that it is not sent: ``config.json: _name_or_path``.
        notes: what others will miss.
    """

    folder: Path
    depth: int
    config: Mapping[str, Any]
    files: Mapping[str, Path]
    texts: Mapping[str, str]
    headers: Mapping[str, Header]
    removed: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by name."""
        sizes = {name: path.stat().st_size for name, path in self.files.items()}
        changes = {name: len(header.text) - header.length for name, header in self.headers.items()}
        sizes |= {name: sizes[name] + change for name, change in changes.items()}
        return dict(sorted({**sizes, **{name: len(_bytes(text)) for name, text in self.texts.items()}}.items()))

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """Yield a temporary folder of exactly what is sent; files are links, where they are sent as they are.

        Raises:
            OutputError: no temporary folder can be made, or it has no room for weights with another header.
        """
        with temporary_folder() as staging:
            try:
                self._fill(staging)
            except OSError as error:
                raise OutputError(
                    f"{self.folder} cannot be made ready in {staging.parent}: {error.strerror}: "
                    "set TMPDIR to a folder with more room"
                ) from None
            yield staging

    def _fill(self, staging: Path) -> None:
        for name in (*self.files, *self.texts):
            (staging / name).parent.mkdir(exist_ok=True)
        for name, path in self.files.items():
            if name not in self.headers:
                (staging / name).symlink_to(path.absolute())
        for name, text in self.texts.items():
            (staging / name).write_bytes(_bytes(text))
        for name, header in self.headers.items():
            header.write(self.files[name], staging / name)


def prepare(
    folder: Path, repo_id: str, results: Results = NO_RESULTS, teacher: Checkpoint | None = None
) -> Publication:
    """Check a model folder from its headers, and decide what of it is sent.

    Args:
        results: of a sweep, for the card.
        teacher: on the Hub, in place of the one that the folder records.

    Raises:
        CheckpointError, UnsupportedModelError: it is no whole model, or has no tokenizer.
        PairError: the teacher is that of another student.
    """
    checkpoint, cleaner = open_checkpoint(folder), Cleaner(folder)
    family = family_of(checkpoint)
    depth = len(take_apart(checkpoint, family).layers)
    if not any(name in checkpoint.files for name in _TOKENIZERS):
        raise CheckpointError(
            f"{folder} has no tokenizer ({', '.join(_TOKENIZERS[:3])}, …): copy the teacher's into it"
        )
    names = set(checkpoint.weight_files)
    headers = {name: header for name in sorted(names) if (header := clean_header(checkpoint.folder / name, cleaner))}
    beside = {file.name for file in companions(checkpoint.files)} | (_OWN & checkpoint.files.keys())
    if (entry := entry_file(checkpoint.files, checkpoint.config, checkpoint.name)) and is_index(entry):
        beside.add(entry)
    texts = _texts(checkpoint, family, repo_id, results, teacher, cleaner)
    recorded = json.loads(texts[STUDENT_CONFIG_FILE]) if STUDENT_CONFIG_FILE in texts else None
    notes = () if recorded is None or is_for_all(recorded, repo_id) else (WARNING,)
    texts |= clean_texts(checkpoint.folder, sorted(beside - texts.keys()), cleaner)
    files = {name: checkpoint.folder / name for name in sorted((names | beside) - texts.keys())}
    return Publication(folder, depth, checkpoint.config, files, texts, headers, tuple(cleaner.removed), notes)


def _texts(
    checkpoint: Checkpoint,
    family: Family,
    repo_id: str,
    results: Results,
    teacher: Checkpoint | None,
    cleaner: Cleaner,
) -> dict[str, str]:
    """Return our own documents as others should read them, and a card where there is none of somebody's own."""
    folder, texts = checkpoint.folder, {}
    made: Mapping[str, Any] | None = None
    if is_student(folder):
        recorded = read_student_config(folder)
        has_file = STUDENT_CONFIG_FILE in checkpoint.files  # what another tool saved has none, and is sent with one
        content = read_json(folder / STUDENT_CONFIG_FILE) if has_file else recorded.as_json()
        if teacher:
            check_pair(Pair(checkpoint, teacher, family_of(teacher), recorded))
            recorded = replace(recorded, teacher=teacher.name, teacher_revision=teacher.revision)
            content |= {"teacher": teacher.name, "teacher_revision": teacher.revision}
        made = student_provenance(checkpoint, family, recorded)
        texts[STUDENT_CONFIG_FILE] = _told(STUDENT_CONFIG_FILE, content, _public_student(content), cleaner)
    if PROVENANCE_FILE in checkpoint.files:
        made = read_json(folder / PROVENANCE_FILE)
        made = made_with_teacher(made, teacher) if teacher else made
        texts[PROVENANCE_FILE] = _told(PROVENANCE_FILE, made, public(made), cleaner)
    card = folder / CARD_FILE
    if made is not None and (not card.is_file() or is_ours(card.read_text("utf-8", "replace"))):
        try:
            multimodal = family.wrapper is not None
            texts[CARD_FILE] = model_card(
                made, name=repo_id, config=checkpoint.config, multimodal=multimodal, results=results
            )
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
            raise CheckpointError(
                f"{folder / PROVENANCE_FILE} does not tell how the model was made: {error!r}"
            ) from error
    return texts


def _told(file: str, content: Mapping[str, Any], shown: Any, cleaner: Cleaner) -> str:
    cleaner.note_differences(file, content, shown)
    return as_json_text(shown)


def _public_student(content: dict[str, Any]) -> Any:
    """Leave a teacher of this disk out: under its name alone nobody would find it."""
    found = is_named_for_all(content.get("teacher"))
    return public(content if found else {key: value for key, value in content.items() if key != "teacher"})


def _bytes(text: str) -> bytes:
    # Half a surrogate pair, or a path of other bytes, becomes the escape that JSON has for it.
    return text.encode("utf-8", "backslashreplace")
