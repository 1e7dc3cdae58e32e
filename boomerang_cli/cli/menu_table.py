"""The menu of sizes that a dry run of ``patch`` prints."""

from __future__ import annotations

from collections.abc import Sequence

from boomerang_cli.cli.sweep_table import Column, sweep_table
from boomerang_cli.engine.evaluation.menu import MenuRow
from boomerang_cli.engine.sizes import show_bytes


def menu_table(rows: Sequence[MenuRow], *, width: int | None = None) -> str:
    """Return one line a size with every known column that the terminal has room for, the chosen one marked.

    Args:
        width: in characters; None is the terminal's, or any in a pipe.
    """
    more = [
        Column("memory", lambda row: show_bytes(row.memory.needed_bytes) if row.memory else ""),
        Column("", lambda row: "<- this one" if row.chosen else ""),
    ]
    return sweep_table(rows, width=width, more=more)[0]
