"""The text that every machine with Python has: the standard library's source, split once and for all."""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from boomerang_cli.engine.errors import DataError

LEFT_OUT_FOLDERS = {"__pycache__", "site-packages", "dist-packages", "test", "tests", "idle_test"}
"""Not the library, or left out by many distributions of Python."""

GENERATED = ("encodings/*", "pydoc_data/*", "html/entities.py", "config-*/*", "_sysconfigdata*")
"""Tables, and how one interpreter was built: nothing that a small model could learn or should repeat."""

HELD_OUT_ONE_IN = 16


def training_files() -> tuple[Path, ...]:
    """Return the files to train on, sorted.

    Raises:
        DataError: this Python comes without its source.
    """
    library = Path(sysconfig.get_path("stdlib"))
    return tuple(library / name for name in _names(library) if not is_held_out(name))


def held_out_files() -> tuple[Path, ...]:
    """Return the files to evaluate on, sorted; none of them is in ``training_files()``.

    Raises:
        DataError: this Python comes without its source.
    """
    library = Path(sysconfig.get_path("stdlib"))
    return tuple(library / name for name in _names(library) if is_held_out(name))


def is_held_out(relative: PurePosixPath) -> bool:
    """Tell whether a file, named relative to the library's folder, is kept from training.

    The name alone decides, so a file is on the same side on every machine and in every version of Python.
    """
    digest = hashlib.sha256(str(relative).encode()).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_ONE_IN == 0


def read_text(path: Path) -> str:
    """Return a file as one document, with ``\\n`` at line ends on every system."""
    return path.read_text(encoding="utf-8", errors="replace")


def _names(library: Path) -> list[PurePosixPath]:
    """Return the source files' paths below the library's folder."""
    names = sorted(name for name in _walk(library) if not any(map(name.match, GENERATED)))
    if not names:
        raise DataError(f"no source of the standard library in {library}; use a Python that comes with it")
    return names


def _walk(library: Path) -> Iterator[PurePosixPath]:
    for folder, subfolders, files in os.walk(library):
        subfolders[:] = set(subfolders) - LEFT_OUT_FOLDERS  # not entered, as site-packages can be large
        relative = PurePosixPath(Path(folder).relative_to(library).as_posix())
        yield from (relative / file for file in files if file.endswith(".py"))
