"""A picture of a sweep: size against perplexity, from the student to the teacher, one line an order."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from boomerang_cli.engine.evaluation.rows import SweepRow
from boomerang_cli.engine.sizes import show_count

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which everybody can tell apart; markers tell them apart in print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_GREY = "#666666"

_Point = tuple[float, ...]
"""Size, value, and its standard error where it has one."""


class _Measure(NamedTuple):
    """What stands on the upright axis."""

    label: str
    logarithmic: bool
    values: list[float | None]


def draw_curve(rows: Sequence[SweepRow], teacher_layers: int) -> bytes | None:
    """Return a PNG file; None if nothing was measured. Without perplexity, the first task's first number is drawn.

    Args:
        teacher_layers: the k of the teacher, which is named in the picture if a row has it.
    """
    measure = _measure(rows)
    if measure is None:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)  # no window system, whatever the machine has
    axes = figure.add_subplot()
    drawn = _draw_orders(axes, rows, measure) + _draw_baselines(axes, rows)
    _mark_ends(axes, rows, measure, teacher_layers)
    axes.set_xlabel("parameters")
    axes.set_ylabel(measure.label)
    _label_ticks(axes, measure)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(handles=drawn, frameon=False)
    picture = io.BytesIO()
    # No date and no version in the file: the same sweep gives the same bytes.
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def _measure(rows: Sequence[SweepRow]) -> _Measure | None:
    if any(row.perplexity is not None for row in rows):
        return _Measure("perplexity, ± standard error", True, [row.perplexity for row in rows])
    for task, metrics in (rows[0].tasks or {}).items() if rows else ():
        for metric in metrics:
            return _Measure(f"{task}: {metric}", False, [(row.tasks or {}).get(task, {}).get(metric) for row in rows])
    return None


def _draw_orders(axes: Axes, rows: Sequence[SweepRow], measure: _Measure) -> list[Artist]:
    points = {
        name: sorted(
            (row.parameters, value, row.perplexity_stderr or 0.0)
            for row, value in zip(rows, measure.values, strict=True)
            if row.order == name and value is not None
        )
        for name in dict.fromkeys(row.order for row in rows)
    }
    drawn: list[Artist] = []
    for index, (names, line) in enumerate(_alike(points)):
        sizes, values, errors = zip(*line, strict=True)
        drawn += axes.errorbar(
            sizes,
            values,
            yerr=errors if measure.logarithmic else None,
            color=_COLOURS[index % len(_COLOURS)],
            marker=_MARKERS[index % len(_MARKERS)],
            markersize=5,
            linewidth=1.5,
            elinewidth=1,
            zorder=3,
        )[:1]
        drawn[-1].set_label(f"distilled, {names}")
    return drawn


def _draw_baselines(axes: Axes, rows: Sequence[SweepRow]) -> list[Artist]:
    """Draw never-distilled models in grey, each with the marker that its order has."""
    points = {
        name: sorted((row.parameters, row.baseline["perplexity"]) for row in rows if row.order == name and row.baseline)
        for name in dict.fromkeys(row.order for row in rows)
    }
    drawn: list[Artist] = []
    for index, (names, line) in enumerate(_alike(points)):
        drawn += axes.plot(
            *zip(*line, strict=True),
            color=_GREY,
            linestyle="--",
            linewidth=1,
            marker=_MARKERS[index % len(_MARKERS)],
            markersize=4,
            markerfacecolor="none",
            alpha=0.7,
            label=f"never distilled, {names}",
        )
    return drawn


def _alike(points: Mapping[str, Sequence[_Point]]) -> list[tuple[str, list[_Point]]]:
    """Return each line once, with the names of all orders that share it; those without points are left out."""
    names: dict[tuple[_Point, ...], list[str]] = {}
    for name, line in points.items():
        names.setdefault(tuple(line), []).append(name)
    return [(" = ".join(shared), list(line)) for line, shared in names.items() if line]


def _mark_ends(axes: Axes, rows: Sequence[SweepRow], measure: _Measure, teacher_layers: int) -> None:
    """Name the student and the teacher where they stand."""
    ends = (("student", 0, "left", (5, 4), "bottom"), ("teacher", teacher_layers, "right", (0, -14), "top"))
    for name, layers, side, offset, above in ends:
        found = [
            (row, value)
            for row, value in zip(rows, measure.values, strict=True)
            if row.layers == layers and value is not None
        ]
        for row, value in found[:1]:
            axes.annotate(
                f"{name}\n{show_count(row.parameters)}",
                (row.parameters, value),
                textcoords="offset points",
                xytext=offset,
                ha=side,
                va=above,
                fontsize=8,
                color=_GREY,
            )
    axes.margins(x=0.06, y=0.18)


def _label_ticks(axes: Axes, measure: _Measure) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: show_count(round(size))))
    if not measure.logarithmic:
        return
    axes.set_yscale("log")
    bottom, top = axes.get_ylim()
    near = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9) if top / bottom < 5 else (1, 2, 3, 5)
    axes.yaxis.set_major_locator(LogLocator(subs=near if top / bottom < 1000 else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
