"""Where bytes lie: in a file of this disk, or in a file of a repository on the Hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from boomerang_cli.engine.errors import CheckpointError

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"

TEMPLATES_FOLDER = "additional_chat_templates"
"""The one folder in a model's that is part of it: transformers puts chat templates there that have a name."""


@dataclass(frozen=True)
class SourceFile:
    """A file of this disk as it was when it was first looked at, so that a later change can be noticed.

    Attributes:
        within: the folder in the model's folder that holds it, if it is not the model's own.
    """

    path: Path
    size_bytes: int
    modified_ns: int
    within: str = ""

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """As within the model's folder: ``additional_chat_templates/x.jinja``."""
        return f"{self.within}/{self.path.name}" if self.within else self.path.name

    @classmethod
    def of(cls, path: Path, within: str = "") -> SourceFile:
        status = path.stat()
        return cls(path, status.st_size, status.st_mtime_ns, within)

    def is_unchanged(self) -> bool:
        """Tell whether the file is still there, with the size and the time that it had."""
        try:
            return SourceFile.of(self.path, self.within) == self
        except OSError:
            return False


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository on the Hub at one commit, which never changes; it is read by ranges.

    Attributes:
        sha256: of its bytes, which the Hub tells of large files alone.
    """

    repo_id: str
    commit: str
    name: str
    size_bytes: int
    sha256: str | None = None

    def __str__(self) -> str:
        return f"{self.repo_id}/{self.name}"


File = SourceFile | RemoteFile


def files_of(folder: Path) -> Mapping[str, File]:
    """Return a model folder's files by name; of the folders in it only the chat templates' is looked into."""
    own = [SourceFile.of(path) for path in sorted(folder.iterdir()) if path.is_file()]
    templates = folder / TEMPLATES_FOLDER
    inner = sorted(templates.iterdir()) if templates.is_dir() and not templates.is_symlink() else []
    own += [SourceFile.of(path, TEMPLATES_FOLDER) for path in inner if path.is_file()]
    return {file.name: file for file in own}


def refuse_pointer(file: object, beginning: bytes) -> None:
    """Refuse what Git leaves in place of a large file that it has not fetched.

    Args:
        beginning: of the file, at least its first 8 bytes.

    Raises:
        CheckpointError: says how to fetch it.
    """
    if len(beginning) >= 8 and _LFS_POINTER.startswith(beginning[: len(_LFS_POINTER)]):
        raise CheckpointError(f"{file} is a Git LFS pointer, not the file itself: run `git lfs pull` in its repository")


def ask(test: Callable[[], bool]) -> bool:
    """Ask the disk about a name that somebody typed, ``ask(path.is_file)``: one that is too long is just not there."""
    try:
        return test()
    except OSError:
        return False


def at_home(path: str | Path) -> Path:
    """Return a path with ``~`` as the user's home; as it is where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def check_utf8(*paths: Path) -> None:
    """Refuse paths that are no UTF-8: the libraries that open weights and tokenizers take no others.

    Raises:
        CheckpointError: one is not.
    """
    for path in map(Path.absolute, paths):
        if as_utf8(str(path)) != str(path):
            raise CheckpointError(f"the name of {path} is not UTF-8, safetensors cannot open it: rename it")


def texts_of(given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Return the texts that a parameter names; one alone may stand without a list, and is not read as its letters."""
    each = (given,) if isinstance(given, (str, os.PathLike)) else given
    return tuple(os.fspath(one) for one in each)


def as_utf8(text: str) -> str:
    """Return text that can be written; bytes of a name that is no UTF-8 become escapes, as JSON has them."""
    return text.encode("utf-8", "backslashreplace").decode()


def is_stray_link(path: Path) -> bool:
    """Tell whether a file is a link to somewhere that is neither its own folder nor the blobs of a Hub cache.

    A folder from a stranger could otherwise name any file of this disk, and have it copied into a model and sent on.
    """
    if not path.is_symlink():
        return False
    real = path.resolve()
    in_cache = real.parent.name == "blobs" and real.parents[1].name.startswith("models--")
    return not in_cache and not real.is_relative_to(path.parent.resolve())
