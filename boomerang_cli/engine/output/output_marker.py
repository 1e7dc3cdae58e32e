"""The record of what boomerang wrote into a folder: a hidden file there, without which nothing in it is removed."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, Literal

MARKER_FILE = ".boomerang"
RESULTS_FILE = "results.json"
"""What a sweep's folder holds once it is finished."""

Kind = Literal["student-init", "student", "patched", "sweep", "demo", "training"]
"""What a folder is: each is replaced by its own kind alone."""

_WORDS: Mapping[str, str] = {
    "student-init": "a student before distillation",
    "student": "a distilled student",
    "patched": "a patched model",
    "sweep": "a sweep",
    "demo": "a demo's project",
    "training": "a training that was begun",
}
_NAMES_SHOWN = 3
_Stamp = tuple[int, int]  # size in bytes, time of the last change in nanoseconds


@dataclass(frozen=True)
class _Marker:
    """What a folder is, and its files: patterns of their paths in it.

    A path that ends with ``/`` is a patched model with a marker of its own. A file with a stamp must not have changed.
    """

    kind: str
    files: Mapping[str, _Stamp | None]


def write_marker(folder: Path, kind: Kind, files: Iterable[str] | None = None) -> None:
    """Record what a folder is, once all of it is written, or before anything is.

    Args:
        files: patterns, as ``fnmatch`` knows them, of the paths in it: ``checkpoint-*/*``. None is each file that is
            there now; of a demo's project, in which a user goes on working, also as it is now.

    Raises:
        OSError: it cannot be written.
    """
    if files is None:
        paths = {glob.escape(path.relative_to(folder).as_posix()): path for path in folder.rglob("*") if path.is_file()}
        stamps = {name: _stamp(path) if kind == "demo" else None for name, path in sorted(paths.items())}
    else:
        stamps = dict.fromkeys(files)
    _write(folder, _Marker(kind, stamps))


def kind_of(folder: Path) -> str | None:
    """Return what boomerang wrote into a folder (see :data:`Kind`), or None where it left no record.

    Raises:
        OSError: it cannot be read.
    """
    marker = _read(folder)
    return None if marker is None else marker.kind


def claim(folder: Path, *names: str) -> None:
    """Add names to a folder's marker, before they are written; a folder that has none is left without.

    Raises:
        OSError: it cannot be written.
    """
    marker = _read(folder)
    added = dict.fromkeys(map(glob.escape, names))
    if marker is not None and added.keys() - marker.files.keys():
        _write(folder, _Marker(marker.kind, {**marker.files, **added}))


def why_not_replaced(folder: Path, kind: Kind) -> str | None:
    """Say what keeps an existing folder from being replaced by an output of this kind, or None.

    Raises:
        OSError: it cannot be read.
    """
    marker = _read(folder)
    if marker is not None and marker.kind != kind:
        what = _WORDS.get(marker.kind, marker.kind)
        return f"is {what}, which {_WORDS[kind]} does not replace: give another --output, or move it away first"
    names = foreign_names(folder, kind)
    if not names:
        return None
    more = len(names) - _NAMES_SHOWN
    listed = ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
    if marker is None:
        return (
            f"holds {listed}, and no record that boomerang wrote it, as older versions left none: "
            "give another --output, or move it away first"
        )
    return f"holds {listed}, which boomerang did not write there: give another --output, or move what is yours away"


def foreign_names(folder: Path, kind: Kind) -> list[str]:
    """Return the paths in a folder that no output of this kind put there, or that are not as it left them.

    Without a marker of this kind that is everything. Links are foreign, and folders in place of files.

    Raises:
        OSError: it cannot be read.
    """
    marker = _read(folder)
    files = marker.files if marker is not None and marker.kind == kind else {}
    folders = {str(parent) for file in files for parent in PurePosixPath(file).parents} - {"."}
    return sorted(_foreign(folder, files, folders, ""))


def _foreign(folder: Path, files: Mapping[str, _Stamp | None], folders: Iterable[str], inside: str) -> Iterator[str]:
    for path in folder.iterdir():
        name = inside + path.name
        if path.is_symlink():
            yield name
        elif path.is_dir():
            if glob.escape(f"{name}/") in files:
                yield from (f"{name}/{each}" for each in foreign_names(path, "patched"))
            elif any(fnmatchcase(name, pattern) for pattern in folders):
                yield from _foreign(path, files, folders, f"{name}/")
            elif not _is_partial(name, files):
                yield name
        elif not (name == MARKER_FILE or _is_partial(name, files) or _is_listed(path, name, files)):
            yield name


def _is_listed(path: Path, name: str, files: Mapping[str, _Stamp | None]) -> bool:
    if not path.is_file():
        return False
    stamp = files.get(glob.escape(name))
    return _stamp(path) == stamp if stamp else any(fnmatchcase(name, pattern) for pattern in files)


def _is_partial(name: str, files: Iterable[str]) -> bool:
    """Tell whether a kill has left this of something that was being written."""
    names = (MARKER_FILE, *(file.rstrip("/") for file in files))
    return any(fnmatchcase(name, f".{each}.partial-*") for each in names)


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _write(folder: Path, marker: _Marker) -> None:
    partial = folder / f".{MARKER_FILE}.partial-new"
    partial.write_text(json.dumps({"kind": marker.kind, "files": marker.files}, indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / MARKER_FILE)


def _read(folder: Path) -> _Marker | None:
    """Return a folder's marker; one that is damaged, or a link, proves nothing and is none."""
    path = folder / MARKER_FILE
    if path.is_symlink() or not path.is_file():
        return None
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        files = {str(name): stamp and (int(stamp[0]), int(stamp[1])) for name, stamp in content["files"].items()}
        return _Marker(str(content["kind"]), files)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None
