"""Text: what ``--data`` names, read as one stream of documents, shuffled.

Nothing is held whole: files and Hub datasets are read as streams, and the shuffle buffer is bounded. The order is the
same at any version of the libraries: the shuffle is our own.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from boomerang_cli.engine.errors import DataError
from boomerang_cli.engine.files import ask
from boomerang_cli.engine.quiet import keep_quiet

END_OF_TEXT = "<|endoftext|>"
"""Separates the documents of a .txt file, whatever the tokenizer's own end-of-text token is."""

PIECE_CHARACTERS = 16_384
"""A longer document of a .txt file is cut: about 4,000 tokens, two sequences of the default length. Long enough for
the context of a sequence to be whole, short enough for the shuffle to mix the books of a file."""

SHUFFLE_DOCUMENTS = 100_000
HUB_SHUFFLE_CHARACTERS = 2**30
LOCAL_SHUFFLE_CHARACTERS = 2**26
"""The shuffle buffer holds at most so many documents and so many characters. 100,000 documents is the published
students' recipe, about 0.6 GB of the Pile; the bound of 1 GB is there for datasets of whole books. Local text is kept
to 64 MB, as it is read on laptops too; 4,000 pieces of a .txt file fit."""

HELD_OUT_DOCUMENTS = 50_000
"""The reference recipe trains behind a Hub dataset's first 50,000 documents."""

REPOSITORY = re.compile(r"(?P<id>[\w.-]*\w[\w.-]*/[\w.-]*\w[\w.-]*)(:(?P<config>[^:@\s]+))?(@(?P<revision>[^:@\s]+))?")


# Sources: what `--data` names


@dataclass(frozen=True)
class LocalText:
    """Files on the disk: one, or all ``.txt``, ``.jsonl`` and ``.parquet`` files below a folder.

    Attributes:
        name: as the user gave it.
        files: sorted.
    """

    name: str
    files: tuple[Path, ...]

    @property
    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)

    def documents(self, shuffler: random.Random | None = None) -> Iterator[str]:
        """Yield the documents of one file after another; the files in random order with a ``shuffler``."""
        for path in sorted(self.files, key=lambda _: shuffler.random()) if shuffler else self.files:
            yield from _read_file(path)


@dataclass(frozen=True)
class HubText:
    """The ``train`` split of a Hub dataset, streamed through ``datasets``.

    Attributes:
        name: as the user gave it, ``owner/name[:config][@revision]``.
        skip: how many documents to leave out at the beginning.
    """

    name: str
    repo_id: str
    config: str | None = None
    revision: str | None = None
    skip: int = 0

    def documents(self, shuffler: random.Random | None = None) -> Iterator[str]:
        """Yield the documents in the dataset's own order: what is held out must be at its beginning.

        Raises:
            DataError: it does not exist, is out of reach, has no ``text``, or the connection broke.
        """
        import datasets

        keep_quiet("datasets", "huggingface_hub")
        try:
            rows = datasets.load_dataset(
                self.repo_id, self.config, split="train", streaming=True, revision=self.revision
            )
            for row in islice(rows, self.skip, None):
                if text := _text_of(row, self.name):
                    yield text
        except Exception as error:  # datasets hands on whatever the libraries below it raise
            if isinstance(error, DataError):
                raise
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise DataError(
                f"{self.name} is no local file or folder, and cannot be read from the Hub: {reason}; "
                "a dataset is owner/name or owner/name:config and needs a `train` split"
            ) from None


Source = LocalText | HubText


@dataclass(frozen=True)
class TextSources:
    """What to train on, and what to evaluate on (empty: no evaluation)."""

    training: tuple[Source, ...]
    evaluation: tuple[Source, ...]


def find_sources(data: Sequence[str], eval_data: Sequence[str] = ()) -> TextSources:
    """Find out what ``--data`` and ``--eval-data`` name; nothing is read, and the Hub is not asked.

    Without ``eval_data`` the first documents of the Hub datasets are held out for evaluation; local text is trained on
    whole, without an evaluation.

    Raises:
        DataError: a path that does not exist, a folder without text, a file of another kind.
    """
    training = tuple(_find_source(value, "--data") for value in data)
    if eval_data:
        return TextSources(training, tuple(_find_source(value, "--eval-data") for value in eval_data))
    return TextSources(
        tuple(
            replace(source, skip=HELD_OUT_DOCUMENTS) if isinstance(source, HubText) else source for source in training
        ),
        tuple(source for source in training if isinstance(source, HubText)),
    )


def _find_source(value: str, flag: str) -> Source:
    kinds = ", ".join(READERS)
    path = Path(value)
    if ask(path.is_dir):
        found = (file for file in path.rglob("*") if file.suffix.lower() in READERS and file.is_file())
        visible = (file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts))
        if files := tuple(sorted(visible)):
            return LocalText(value, files)
        raise DataError(f"{flag} {value} is a folder without any {kinds} file: give one that holds text")
    if path.suffix.lower() in READERS and not ask(path.exists):
        raise DataError(f"{flag} {value} does not exist: give a {kinds} file, a folder of them, or a Hub dataset")
    if ask(path.exists):
        if path.suffix.lower() in READERS:
            return LocalText(value, (path,))
        raise DataError(f"{flag} {value} is of an unknown kind: convert it to one of {kinds}")
    if match := REPOSITORY.fullmatch(value):
        return HubText(value, match["id"], match["config"], match["revision"])
    raise DataError(
        f"{flag} {value} is neither a file, nor a folder, nor a Hub dataset (owner/name or owner/name:config)"
    )


# Readers: a file → documents, none of them empty


def _read_file(path: Path) -> Iterator[str]:
    try:
        yield from READERS[path.suffix.lower()](path)
    except GeneratorExit:  # no more is wanted; when Python ends, pyarrow's errors are gone by now
        raise
    except UnicodeDecodeError as error:
        wrong = f"byte 0x{error.object[error.start]:02x}, {error.reason}"
        raise DataError(f"{path} is not UTF-8 ({wrong}): convert it, or leave it out") from None
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read: {reason}; mend it, or leave it out") from None


def _read_txt(path: Path) -> Iterator[str]:
    """Yield what stands between ``<|endoftext|>``, cut to pieces, without the line breaks around it."""
    rest = ""
    with path.open(encoding="utf-8-sig") as file:
        while read := file.read(4 * PIECE_CHARACTERS):
            *documents, rest = (rest + read).split(END_OF_TEXT)
            for document in documents:
                yield from _tidy(_cut(document))
            # A separator may have begun at the end: only text that it cannot reach is cut off.
            *pieces, rest = _cut(rest, spare=len(END_OF_TEXT))
            yield from _tidy(pieces)
    yield from _tidy(_cut(rest))


def _cut(document: str, spare: int = 0) -> Iterator[str]:
    """Yield pieces of at most PIECE_CHARACTERS that end with a line, else with a word; the last may be empty.

    ``spare``: the text goes on, so leave a last piece of up to this many characters more uncut.
    """
    start = 0
    while len(document) - start > PIECE_CHARACTERS + spare:
        middle, end = start + PIECE_CHARACTERS // 2, start + PIECE_CHARACTERS
        breaks = (document.rfind(mark, middle, end) + 1 for mark in "\n ")
        stop = next(filter(None, breaks), end)
        yield document[start:stop]
        start = stop
    yield document[start:]


def _tidy(documents: Iterable[str]) -> Iterator[str]:
    return (document.strip("\n") for document in documents if document.strip())


def _read_jsonl(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                wrong = getattr(error, "msg", str(error))
                raise DataError(f"{path} line {number} is not JSON ({wrong}): mend it, or leave the file out") from None
            if text := _text_of(row, f"{path} line {number}"):
                yield text.encode(errors="replace").decode()  # an escape may be half a character, which has no UTF-8


def _read_parquet(path: Path) -> Iterator[str]:
    with pyarrow.parquet.ParquetFile(path) as file:
        if "text" not in file.schema_arrow.names:
            _text_of(dict.fromkeys(file.schema_arrow.names), str(path))
        for batch in file.iter_batches(batch_size=128, columns=["text"], use_threads=False):
            for row in batch.to_pylist():
                if text := _text_of(row, str(path)):
                    yield text


def _text_of(row: Any, where: str) -> str:
    """Return the row's text; a missing value is an empty one."""
    if not isinstance(row, Mapping):
        raise DataError(f'{where} is not an object: each line must be like {{"text": "…"}}')
    if "text" not in row:
        columns = ", ".join(map(str, row)) or "none"
        raise DataError(f"{where} has no column `text` (columns: {columns}): rename the one that holds the text")
    text = row["text"]
    if text is not None and not isinstance(text, str):
        raise DataError(f"{where} has a `text` that is no text but {type(text).__name__}: give strings")
    return text or ""


READERS: dict[str, Callable[[Path], Iterator[str]]] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


# Documents: several sources → one stream


def read_documents(sources: Iterable[Source], seed: int | None = None) -> Iterator[str]:
    """Yield a document of each source in turn until all have ended; shuffled if there is a ``seed``.

    In turn, so that each source is in every part of the stream: a run that stops early has seen them all.
    """
    sources = tuple(sources)
    if seed is None:
        return _in_turn(source.documents() for source in sources)
    shuffler = random.Random(seed)
    remote = any(isinstance(source, HubText) for source in sources)
    return _shuffle(
        _in_turn(source.documents(shuffler) for source in sources),
        shuffler,
        HUB_SHUFFLE_CHARACTERS if remote else LOCAL_SHUFFLE_CHARACTERS,
    )


def _in_turn(streams: Iterable[Iterator[str]]) -> Iterator[str]:
    streams = list(streams)
    while streams:
        for stream in tuple(streams):
            if (document := next(stream, None)) is None:
                streams.remove(stream)
            else:
                yield document


def _shuffle(documents: Iterable[str], shuffler: random.Random, at_most_characters: int) -> Iterator[str]:
    buffer: list[str] = []

    def draw() -> str:
        # Of all methods, only random() gives the same numbers in every version of Python.
        index = int(shuffler.random() * len(buffer))
        buffer[index], buffer[-1] = buffer[-1], buffer[index]
        return buffer.pop()

    characters = 0
    for document in documents:
        buffer.append(document)
        characters += len(document)
        while len(buffer) > SHUFFLE_DOCUMENTS or characters > at_most_characters:
            drawn = draw()
            characters -= len(drawn)
            yield drawn
    while buffer:
        yield draw()
