"""What a sweep found, as text: its table and, on a terminal, its curve."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from boomerang_cli.cli.style import Style
from boomerang_cli.cli.sweep_table import sweep_table
from boomerang_cli.cli.terminal_curve import WIDTH, terminal_curve
from boomerang_cli.engine.evaluation.pareto import Recommendation
from boomerang_cli.engine.evaluation.rows import SweepRow, each_once


def sweep_text(
    rows: Sequence[SweepRow],
    recommended: Recommendation | None,
    *,
    curve: bool | None = None,
    width: int | None = None,
) -> tuple[str, tuple[str, ...]]:
    """Return the text, and the headings of the columns that it has no room for.

    Args:
        curve: whether there is one; None is on a terminal alone.
        width: of the table, in characters; None is the terminal's, or any in a pipe.
    """
    style = Style.of(sys.stdout)
    models = each_once(rows)
    text, left_out = sweep_table(models, recommended, width=width)
    names = list(dict.fromkeys(row.order for row in rows))
    heading, *lines = text.splitlines()
    shown = [_styled(*each, recommended, names, style) for each in zip(lines, models, strict=True)]
    text = "\n".join([style.bold(heading), *shown])
    if sys.stdout.isatty() if curve is None else curve:
        columns = min(WIDTH, shutil.get_terminal_size().columns) if sys.stdout.isatty() else WIDTH
        drawn = terminal_curve(rows, recommended, width=columns, style=style)
        text += f"\n\n{drawn}" if drawn else ""
    return text, left_out


def _styled(line: str, row: SweepRow, recommended: Recommendation | None, names: Sequence[str], style: Style) -> str:
    """Make the recommended size's line bold, and give an order's name the colour that it has in the curve."""
    if recommended and recommended.is_knee(row.patched_blocks):
        return style.bold(line)
    if len(names) < 2 or row.order not in names or not line.startswith(row.order):
        return line
    return style.coloured(row.order, names.index(row.order)) + line.removeprefix(row.order)
