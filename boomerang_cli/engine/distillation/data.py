"""Text: what ``--data`` names, files or a dataset of the Hub; both are read as streams, nothing is held whole."""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import ClassVar

from boomerang_cli.engine.checkpoint.files import ask
from boomerang_cli.engine.checkpoint.hub_address import named_by_address
from boomerang_cli.engine.distillation.readers import (
    ROW_KINDS,
    TEXT_COLUMN,
    TEXT_KINDS,
    Row,
    is_of_kind,
    read_file,
    read_rows,
    text_of,
)
from boomerang_cli.engine.errors import DataError
from boomerang_cli.engine.quiet import keep_quiet
from boomerang_cli.engine.waiting import waiting

HELD_OUT_DOCUMENTS = 50_000
"""The reference recipe trains behind a Hub dataset's first 50,000 documents."""

REPOSITORY = re.compile(
    r"(?P<id>[\w.-]*\w[\w.-]*/[\w.-]*\w[\w.-]*)"
    r"(:(?P<config>[^:@\s]+)|:(?P<configured>[^:@\s]*):(?P<split>[^:@\s]+))?(@(?P<revision>[^:@\s]+))?"
)
"""``owner/name``, ``owner/name:config``, ``owner/name:config:split`` or ``owner/name::split``, each with a revision."""

_FILES_OF_DATASETS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""What ``datasets`` writes beside its text."""
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class LocalText:
    """Files on the disk: one, or all text below a folder.

    Attributes:
        name: as the user gave it.
        files: sorted.
        left_out: what else the folder holds, and how often: ``.zip file``, ``linked folder``; not what is hidden.
        column: of rows, the one that holds the text.
    """

    name: str
    files: tuple[Path, ...]
    left_out: Mapping[str, int] = field(default_factory=dict, hash=False)
    column: str = TEXT_COLUMN
    is_remote: ClassVar = False

    @property
    def note(self) -> str | None:
        """What is to be said of a folder that is not read whole."""
        if not self.left_out:
            return None
        names = [os.path.relpath(path, self.name) for path in self.files]
        shown = f" ({', '.join(names)})" if len(names) <= _NAMES_SHOWN else ""
        return f"{self.name}: reading {_counted('file', len(names))}{shown}; left out {_listed(self.left_out)}"

    @property
    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)

    def documents(self, shuffler: random.Random | None = None) -> Iterator[str]:
        """Yield the documents of one file after another; the files in random order with a ``shuffler``."""
        for path in self._in_order(shuffler):
            yield from read_file(path, self.column)

    def rows(self, columns: Sequence[str], shuffler: random.Random | None = None) -> Iterator[Row]:
        """Yield rows as :meth:`documents` does documents (see ``readers.read_rows``)."""
        for path in self._in_order(shuffler):
            yield from read_rows(path, columns)

    def _in_order(self, shuffler: random.Random | None) -> Sequence[Path]:
        return sorted(self.files, key=lambda _: shuffler.random()) if shuffler else self.files


@dataclass(frozen=True)
class HubText:
    """A split of a Hub dataset, streamed through ``datasets``.

    Attributes:
        name: as the user gave it, ``owner/name[:config[:split]][@revision]``.
        skip: how many documents to leave out at the beginning.
        column: the one that holds the text.
    """

    name: str
    repo_id: str
    config: str | None = None
    revision: str | None = None
    skip: int = 0
    split: str = "train"
    column: str = TEXT_COLUMN
    is_remote: ClassVar = True

    @property
    def _first_row(self) -> str:
        behind = f", behind {self.skip:,} documents that are held out" if self.skip else ""
        return f"waiting for the first row of {self.name} on the Hub{behind}"

    def documents(self, shuffler: random.Random | None = None) -> Iterator[str]:
        """Yield the documents in the dataset's own order: what is held out must be at its beginning.

        Raises:
            DataError: it does not exist, is out of reach, has no such column, or the connection broke.
        """
        for row, _ in self.rows((self.column,)):
            if text := text_of(row, self.name, self.column):
                yield text

    def rows(self, columns: Sequence[str], shuffler: random.Random | None = None) -> Iterator[Row]:
        """Yield rows whole, in the dataset's own order (errors as in :meth:`documents`)."""
        import datasets

        keep_quiet("datasets", "huggingface_hub")
        try:
            with waiting(self._first_row):
                dataset = datasets.load_dataset(
                    self.repo_id, self.config, split=self.split, streaming=True, revision=self.revision
                )
                rows = islice(dataset, self.skip, None)
                first = [*islice(rows, 1)]
            for number, row in enumerate(chain(first, rows), start=self.skip + 1):
                yield row, f"{self.name} row {number}"
        except Exception as error:  # datasets hands on whatever the libraries below it raise
            if isinstance(error, DataError):
                raise
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise DataError(
                f"{self.name} is no local file or folder, and cannot be read from the Hub: {reason}; "
                f"a dataset is owner/name[:config[:split]] and needs a `{self.split}` split"
            ) from None


Source = LocalText | HubText


@dataclass(frozen=True)
class TextSources:
    """What to train on, and what to evaluate on (empty: no evaluation).

    Attributes:
        chat: what holds rows of conversations.
    """

    training: tuple[Source, ...]
    evaluation: tuple[Source, ...]
    chat: tuple[Source, ...] = ()

    @property
    def notes(self) -> list[str]:
        return notes_on((*self.training, *self.evaluation, *self.chat))


def notes_on(sources: Sequence[Source]) -> list[str]:
    """Return what is to be said of folders that are not read whole, each once."""
    return list(dict.fromkeys(source.note for source in sources if isinstance(source, LocalText) and source.note))


def find_sources(
    data: Sequence[str], eval_data: Sequence[str] = (), chat_data: Sequence[str] = (), *, column: str = TEXT_COLUMN
) -> TextSources:
    """Find out what ``--data``, ``--eval-data`` and ``--sft-data`` name; nothing is read, and the Hub is not asked.

    Without ``eval_data`` the first documents of the Hub datasets are held out for evaluation; local text is trained on
    whole, without an evaluation.

    Args:
        column: of rows of text, the one that holds it.

    Raises:
        DataError: a path that does not exist, a folder without text, a file of another kind.
    """
    training = tuple(replace(_find_source(value, "--data", TEXT_KINDS), column=column) for value in data)
    chat = tuple(_find_source(value, "--sft-data", ROW_KINDS) for value in chat_data)
    if eval_data:
        evaluation = (_find_source(value, "--eval-data", TEXT_KINDS) for value in eval_data)
        return TextSources(training, tuple(replace(source, column=column) for source in evaluation), chat)
    return TextSources(
        tuple(
            replace(source, skip=HELD_OUT_DOCUMENTS) if isinstance(source, HubText) else source for source in training
        ),
        tuple(source for source in training if isinstance(source, HubText)),
        chat,
    )


def _find_source(value: str, flag: str, kinds: Sequence[str]) -> Source:
    path, shown = Path(value), ", ".join(kinds)
    is_known = is_of_kind(path, kinds)
    if ask(path.is_dir):
        files, left_out = _look_through(path, kinds)
        if files:
            return LocalText(value, files, left_out)
        held = f" but {_listed(left_out)}" if left_out else ""
        raise DataError(f"{flag} {value} is a folder without any {shown} file{held}: give one that holds text")
    if is_known and not ask(path.exists):
        raise DataError(f"{flag} {value} does not exist: give a {shown} file, a folder of them, or a Hub dataset")
    if ask(path.exists):
        if is_known:
            return LocalText(value, (path,))
        why = "holds no rows" if is_of_kind(path, TEXT_KINDS) else "is of an unknown kind"
        raise DataError(f"{flag} {value} {why}: convert it to one of {shown}")
    if match := REPOSITORY.fullmatch(named_by_address(value, "datasets/")):
        config = match["config"] or match["configured"] or None
        return HubText(value, match["id"], config, match["revision"], split=match["split"] or "train")
    raise DataError(
        f"{flag} {value} is neither a file, nor a folder, nor a Hub dataset (owner/name or owner/name:config)"
    )


def _look_through(root: Path, kinds: Sequence[str]) -> tuple[tuple[Path, ...], Counter[str]]:
    """Return the files of ``kinds`` below a folder, sorted, and what is left out; hidden names are neither."""
    files: list[Path] = []
    left_out: Counter[str] = Counter()
    for inside, folders, names in os.walk(root, onerror=lambda error: left_out.update(["folder that may not be read"])):
        folder = Path(inside)
        folders[:] = [name for name in folders if not name.startswith(".")]
        left_out["linked folder"] += sum((folder / name).is_symlink() for name in folders)  # os.walk stays out of them
        for path in (folder / name for name in names if not name.startswith(".")):
            if not path.exists():
                left_out["broken link"] += 1
            elif not path.is_file() or not is_of_kind(path, kinds):
                left_out[f"{''.join(path.suffixes[-2:]) or 'other'} file"] += 1
            elif path.name in _FILES_OF_DATASETS:
                left_out[path.name] += 1
            else:
                files.append(path)
    return tuple(sorted(files)), +left_out


def _listed(left_out: Mapping[str, int]) -> str:
    return ", ".join(_counted(what, count) for what, count in sorted(left_out.items()))


def _counted(what: str, count: int) -> str:
    one, _, rest = what.partition(" that ")
    return f"{count:,} {one}{'' if count == 1 else 's'}{f' that {rest}' if rest else ''}"
