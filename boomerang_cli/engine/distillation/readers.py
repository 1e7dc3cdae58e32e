"""Readers: a file of text, packed or not, as the documents or the rows that it holds; no document is empty."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import sys
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, TextIO, TypeVar

import pyarrow as pa
import pyarrow.parquet

from boomerang_cli.engine.errors import DataError

END_OF_TEXT = "<|endoftext|>"
"""Separates the documents of a .txt file, whatever the tokenizer's own end-of-text token is."""

PIECE_CHARACTERS = 16_384
"""A longer document of a .txt file is cut: about 4,000 tokens, two sequences of the default length. Long enough for
the context of a sequence to be whole, short enough for the shuffle to mix the books of a file."""

TEXT_COLUMN = "text"

Row = tuple[Any, str]
"""What a file holds of one row, a mapping of columns if it is as it should be, and where that stands, for an error."""

Item = TypeVar("Item")


def is_of_kind(path: Path, kinds: Collection[str]) -> bool:
    """Tell from its name whether a file is of one of the ``kinds``, packed or not."""
    kind, packed = _kind_of(path)
    return kind in kinds and not (packed and kind == ".parquet")


def read_file(path: Path, column: str = TEXT_COLUMN) -> Iterator[str]:
    """Yield the documents of a file; of rows, what ``column`` holds.

    Raises:
        DataError: it cannot be read, is damaged, or has no text; names the file and the line.
    """
    if is_of_kind(path, [".txt"]):
        return _telling(path, _read_txt(path))
    return (document for row, where in read_rows(path, [column]) for document in _whole(text_of(row, where, column)))


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a file, with ``columns`` at least of those that it has.

    Raises:
        DataError: it cannot be read, or is damaged; names the file and the line.
    """
    return _telling(path, ROW_READERS[_kind_of(path)[0]](path, columns))


def _telling(path: Path, items: Iterator[Item]) -> Iterator[Item]:
    try:
        yield from items
    except GeneratorExit:  # no more is wanted; when Python ends, pyarrow's errors are gone by now
        raise
    except UnicodeDecodeError as error:
        wrong = f"byte 0x{error.object[error.start]:02x}, {error.reason}"
        raise DataError(f"{path} is not UTF-8 ({wrong}): convert it, or leave it out") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError, csv.Error, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read: {reason}; mend it, or leave it out") from None


def _kind_of(path: Path) -> tuple[str, str]:
    """Return the suffix that tells a file's kind, and the one that tells how it is packed: ``.jsonl``, ``.gz``."""
    suffix = path.suffix.lower()
    return (Path(path.stem).suffix.lower(), suffix) if suffix in UNPACKERS else (suffix, "")


def _open_text(path: Path, newline: str | None = None) -> TextIO:
    unpacked = UNPACKERS.get(_kind_of(path)[1], io.FileIO)(path)
    return io.TextIOWrapper(io.BufferedReader(unpacked), encoding="utf-8-sig", newline=newline)


def _read_txt(path: Path) -> Iterator[str]:
    """Yield what stands between ``<|endoftext|>``, cut to pieces, without the line breaks around it."""
    rest = ""
    with _open_text(path) as file:
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


def _read_jsonl(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    with _open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _parse(line, f"{path} line {number}"), f"{path} line {number}"


def _read_json(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Read what is either JSON Lines after all, or one list of objects, which is held whole."""
    with _open_text(path) as file:
        first = next((line for line in file if line.strip()), "")
    try:
        is_lines = isinstance(json.loads(first or "{}"), Mapping)
    except (ValueError, RecursionError):
        is_lines = False
    if is_lines:
        yield from _read_jsonl(path, columns)
        return
    with _open_text(path) as file:
        rows = _parse(file.read(), str(path))
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], start=1):
        yield row, f"{path} entry {number}"


def _read_csv(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)  # by default a field of more than 131,072 characters is an error
    with _open_text(path, newline="") as file:
        rows = csv.DictReader(file, strict=True)
        for row in rows:
            yield row, f"{path} line {rows.line_num}"


def _read_parquet(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    with pyarrow.parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        wanted = [column for column in columns if column in names]
        if not wanted:
            yield dict.fromkeys(names), str(path)  # to be refused for what it lacks, also if there is no row
        numbers = count(1)
        for batch in file.iter_batches(batch_size=128, columns=wanted, use_threads=False):
            for row in batch.to_pylist():
                yield row, f"{path} row {next(numbers)}"


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        wrong = getattr(error, "msg", str(error))
        raise DataError(f"{where} is not JSON ({wrong}): mend it, or leave the file out") from None


def text_of(row: Any, where: str, column: str = TEXT_COLUMN) -> str:
    """Return the row's text; a missing value is an empty one."""
    if not isinstance(row, Mapping):
        raise DataError(f'{where} is not an object: each one must be like {{"{column}": "…"}}')
    if column not in row:
        columns = ", ".join(map(str, row)) or "none"
        raise DataError(
            f"{where} has no column `{column}` (columns: {columns}): rename the one that holds the text, or name it to "
            "`distill` with --text-column"
        )
    text = row[column]
    if text is not None and not isinstance(text, str):
        raise DataError(f"{where} has a `{column}` that is no text but {type(text).__name__}: give strings")
    return text or ""


def _whole(text: str) -> Iterator[str]:
    """Yield a text unless it is empty; an escape in JSON may be half a character, which has no UTF-8."""
    if text:
        yield text.encode(errors="replace").decode()


UNPACKERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": lambda path: pa.input_stream(str(path), compression="zstd"),
}

ROW_READERS: dict[str, Callable[[Path, Sequence[str]], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}

ROW_KINDS = tuple(ROW_READERS)
TEXT_KINDS = (".txt", *ROW_KINDS)
KINDS = ", ".join(TEXT_KINDS)
