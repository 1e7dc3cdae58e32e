"""One file of a sweep's folder: recorded there as the sweep's own, and whole or not there."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.output.output_marker import claim


def keep_file(folder: Path, name: str, content: bytes) -> None:
    """Write a file, in place of what an earlier run wrote, once it cannot be lost any more.

    Args:
        name: its path in the sweep's folder; folders on the way are made.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / name
    partial = path.with_name(f".{path.name}.partial-new")  # one name: what a kill leaves, the next run writes over
    try:
        claim(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError(f"{path} cannot be written: {error.strerror}") from None


def keep_folder(folder: Path, name: str) -> None:
    """Record that a patched model of this name, which carries a marker of its own, is the sweep's.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        claim(folder, f"{name}/")
    except OSError as error:
        raise OutputError(f"{folder / name} cannot be written: {error.strerror}") from None
