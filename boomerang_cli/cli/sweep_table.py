"""The table of a sweep, as wide as the terminal has room for."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from boomerang_cli.cli.table import table
from boomerang_cli.engine.evaluation.pareto import Recommendation
from boomerang_cli.engine.evaluation.rows import SweepRow
from boomerang_cli.engine.sizes import show_bytes, show_count


class Column(NamedTuple):
    heading: str
    cell: Callable[[Any], str]
    """Of a row."""
    dispensable: int = 0
    """Columns with the highest number are left out first where there is no room; those with 0 never."""


def sweep_table(
    rows: Sequence[SweepRow],
    recommended: Recommendation | None = None,
    *,
    width: int | None = None,
    more: Sequence[Column] = (),
) -> tuple[str, tuple[str, ...]]:
    """Return the table, and the headings of the columns that it has no room for.

    Args:
        recommended: marks the sizes on the Pareto front, and the one to take.
        width: in characters; None is the terminal's, or any in a pipe.
        more: columns on the right.
    """
    if width is None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    columns = [*_columns(rows, recommended), *more]
    columns = [column for column in columns if any(column.cell(row) for row in rows)]
    left_out: list[str] = []
    while True:
        text = table([column.heading for column in columns], [[column.cell(row) for column in columns] for row in rows])
        last = max(columns, key=lambda column: column.dispensable)
        if last.dispensable == 0 or max(map(len, text.splitlines())) <= width:
            return text, tuple(left_out)
        columns.remove(last)
        left_out.append(last.heading)


def _columns(rows: Sequence[SweepRow], recommended: Recommendation | None) -> list[Column]:
    metrics = {
        (task, name): None for row in rows for task, found in (row.tasks or {}).items() for name in list(found)[:1]
    }
    misread = any(not row.portable for row in rows)
    return [
        Column("order", lambda row: row.order),
        Column("k", lambda row: str(row.layers)),
        Column("depth", lambda row: str(row.depth)),
        Column("parameters", lambda row: show_count(row.parameters)),
        Column("size", lambda row: show_bytes(row.bytes), 2),
        Column("front", lambda row: _mark(row, recommended)),
        Column("perplexity", _perplexity),
        Column("KL", lambda row: _number(row.kl)),
        Column("top1", lambda row: _number(row.top1), 2),
        Column("acceptance", lambda row: _number(row.acceptance), 3),
        Column("never distilled", lambda row: _number((row.baseline or {}).get("perplexity"))),
        Column("its KL", lambda row: _number((row.baseline or {}).get("kl")), 3),
        Column("tokens/s", lambda row: _rate(row.tokens_per_second), 1),
        Column("written/s", lambda row: _rate(row.generated_tokens_per_second), 1),
        Column("memory", lambda row: "" if row.memory_bytes is None else show_bytes(row.memory_bytes), 2),
        Column("portable", lambda row: ("yes" if row.portable else "no") if misread else "", 3),
        *(Column(f"{task} {name}", _metric(task, name)) for task, name in metrics),
        Column("blocks patched", lambda row: ",".join(map(str, row.patched_blocks)) or "none", 4),
    ]


def _rate(tokens_per_second: float | None) -> str:
    if tokens_per_second is None:
        return ""
    return f"{tokens_per_second:,.0f}" if tokens_per_second >= 100 else f"{tokens_per_second:.3g}"


def _mark(row: SweepRow, recommended: Recommendation | None) -> str:
    if recommended is None or not recommended.is_on_front(row.patched_blocks):
        return ""
    return "take *" if recommended.is_knee(row.patched_blocks) else "*"


def _perplexity(row: SweepRow) -> str:
    if row.perplexity is None:
        return ""
    decimals = 3 if row.perplexity < 10 else 2
    if row.perplexity >= 10_000 or row.perplexity_stderr is None:
        return f"{row.perplexity:.2e}" if row.perplexity >= 10_000 else f"{row.perplexity:.{decimals}f}"
    return f"{row.perplexity:.{decimals}f} ± {row.perplexity_stderr:.{decimals}f}"


def _metric(task: str, name: str) -> Callable[[SweepRow], str]:
    return lambda row: _number((row.tasks or {}).get(task, {}).get(name))


def _number(value: float | None) -> str:
    """Return four significant digits, without an exponent where it can be read without."""
    if value is None:
        return ""
    return f"{value:.4f}" if value < 10 else f"{value:.2f}" if value < 10_000 else f"{value:.2e}"
