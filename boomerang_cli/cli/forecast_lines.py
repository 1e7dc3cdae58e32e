"""What ``--compare`` found, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from boomerang_cli.cli.table import table
from boomerang_cli.engine.sizes import show_count

if TYPE_CHECKING:
    from boomerang_cli.engine.evaluation.forecast import Agreement, Forecast

_MEANING = (
    "a cosine near 0.7 made good students in the paper, thinking models (0.57, 0.64) wrote malformed <think> tags, and "
    "0.30 was unreliable; a norm ratio near 1 says that both students moved as far"
)


def forecast_lines(forecast: Forecast) -> Iterator[str]:
    """Yield the two deltas' agreement by group, the paper's values, and what they mean."""
    yield "the delta against the compared student's own:"
    rows = [_row(group, agreement) for group, agreement in forecast.groups.items()]
    yield table(["tensors", "cosine", "norm ratio", "parameters"], [*rows, _row("all", forecast.total)])
    if forecast.total.cosine is None:
        yield "warning: one of the two deltas is zero, which has no cosine: that student was never distilled"
    known = (f"{name.rpartition('/')[2]} {cosine:.2f} / {ratio:.2f}" for name, (cosine, ratio) in _published(forecast))
    yield f"published, cosine / norm ratio: {', '.join(known)}"
    yield _MEANING


def _published(forecast: Forecast) -> list[tuple[str, tuple[float, float]]]:
    return sorted(forecast.published.items(), key=lambda each: -each[1][0])


def _row(name: str, agreement: Agreement) -> list[str]:
    shown = ["" if value is None else f"{value:.2f}" for value in (agreement.cosine, agreement.norm_ratio)]
    return [name, *shown, show_count(agreement.parameters)]
