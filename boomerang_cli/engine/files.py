"""Where bytes lie: in a file of this disk, or in a file of a repository on the Hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from boomerang_cli.engine.errors import CheckpointError


@dataclass(frozen=True)
class SourceFile:
    """A file of this disk as it was when it was first looked at, so that a later change can be noticed."""

    path: Path
    size_bytes: int
    modified_ns: int

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    @classmethod
    def of(cls, path: Path) -> SourceFile:
        status = path.stat()
        return cls(path, status.st_size, status.st_mtime_ns)

    def is_unchanged(self) -> bool:
        """Tell whether the file is still there, with the size and the time that it had."""
        try:
            return SourceFile.of(self.path) == self
        except OSError:
            return False


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository on the Hub at one commit, which never changes; it is read by ranges."""

    repo_id: str
    commit: str
    name: str
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.repo_id}/{self.name}"


File = SourceFile | RemoteFile


def files_of(folder: Path) -> Mapping[str, File]:
    """Return the files of a folder by name, without those of folders in it."""
    return {path.name: SourceFile.of(path) for path in sorted(folder.iterdir()) if path.is_file()}


def ask(test: Callable[[], bool]) -> bool:
    """Ask the disk about a name that somebody typed, ``ask(path.is_file)``: one that is too long is just not there."""
    try:
        return test()
    except OSError:
        return False


def check_utf8(*paths: Path) -> None:
    """Refuse paths that are no UTF-8: the libraries that open weights and tokenizers take no others.

    Raises:
        CheckpointError: one is not.
    """
    for path in map(Path.absolute, paths):
        if as_utf8(str(path)) != str(path):
            raise CheckpointError(f"the name of {path} is not UTF-8, safetensors cannot open it: rename it")


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
