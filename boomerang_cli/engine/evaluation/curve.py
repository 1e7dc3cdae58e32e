"""The picture of a sweep: what each size costs and gives, from the student to the teacher, a line an order."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boomerang_cli.engine.evaluation.panels import Line, Panel, Point, panels_of, plain_number
from boomerang_cli.engine.evaluation.rows import SweepResult, SweepRow, best_order
from boomerang_cli.engine.publishing.privacy import last_part
from boomerang_cli.engine.sizes import show_count

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which everybody can tell apart; markers tell them apart in print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_GREY, _DARK, _BAND = "#767676", "#333333", "#FBF3D5"
_WIDTH_INCHES, _PANEL_INCHES, _AROUND_INCHES = 7.2, 2.7, 1.2
_STEPS = [1, 2, 2.5, 5, 10]
_LAYERS_SHOWN = 9
_TICKS_APART = 0.23
"""Of the axis: room for a number of parameters."""
_LONGEST_LINE = 90
"""Characters of a title that the picture has room for."""


@dataclass(frozen=True)
class Picture:
    """One picture as two files; ``left_out`` tells the values that are no numbers, which it does not show."""

    png: bytes
    svg: bytes
    left_out: tuple[str, ...]


def draw_curve(result: SweepResult, teacher_layers: int) -> Picture | None:
    """Draw the scores of a sweep; None if nothing was measured. The same sweep gives the same bytes.

    Args:
        teacher_layers: the k of the teacher.
    """
    panels = panels_of(result.rows)
    if not panels:
        return None
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    left_out = tuple(each for panel in panels for each in panel.left_out)
    with rc_context({"svg.hashsalt": "boomerang", "svg.fonttype": "none", "font.size": 9}), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name may hold letters that no font here has
        size = (_WIDTH_INCHES, _AROUND_INCHES + lines * _PANEL_INCHES)
        figure = Figure(figsize=size, dpi=150, layout="constrained")
        FigureCanvasAgg(figure)  # no window system, whatever the machine has
        for number, panel in enumerate(panels, start=1):
            axes = figure.add_subplot(lines, columns, number)
            _draw_lines(axes, panel, result)
            _mark_recommended(axes, panel, result)
            _set_scale(axes, panel)
            _label_sizes(axes, result, teacher_layers)
            _name_teacher(axes, panel, result.rows, teacher_layers)
        _write_around(figure, panels, result, left_out)
        return Picture(_saved(figure, "png"), _saved(figure, "svg"), left_out)


def _saved(figure: Figure, kind: str) -> bytes:
    picture = io.BytesIO()
    # No date and no version in the file.
    nothing: dict[str, Any] = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    figure.savefig(picture, format=kind, metadata=nothing)
    return picture.getvalue()


def _draw_lines(axes: Axes, panel: Panel, result: SweepResult) -> None:
    """Draw never-distilled models in grey below the others; models that are not on the front are hollow."""
    for line in panel.never_distilled:
        axes.plot(*_along(line.points), **_never_distilled(line.number), zorder=2)
    for line in panel.distilled:
        colour, marker = _look(line.number)
        axes.plot(*_along(line.points), color=colour, linewidth=1.4, zorder=3)
        sizes, values = _along(line.points)
        errors = [point.error for point in line.points]
        axes.errorbar(sizes, values, yerr=errors, fmt="none", ecolor=colour, elinewidth=1, alpha=0.35, zorder=3)
        for point in line.points:
            is_hollow = result.recommended is not None and not result.recommended.is_on_front(point.patched_blocks)
            fill = "white" if is_hollow else colour
            axes.plot(
                point.parameters, point.value, marker, color=colour, markerfacecolor=fill, markersize=4.5, zorder=4
            )


def _along(points: Sequence[Point]) -> tuple[list[int], list[float]]:
    return [point.parameters for point in points], [point.value for point in points]


def _look(number: int) -> tuple[str, str]:
    return _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]


def _never_distilled(number: int) -> dict[str, Any]:
    return {
        "color": _GREY, "linestyle": (0, (4, 3)), "linewidth": 1, "marker": _look(number)[1], "markersize": 3,
        "markerfacecolor": "white",
    }  # fmt: skip


def _mark_recommended(axes: Axes, panel: Panel, result: SweepResult) -> None:
    """Put a ring around the recommended model, and a band behind its size."""
    if result.recommended is None or (knee := result.recommended.knee) is None:
        return
    axes.axvline(knee.parameters, color=_BAND, linewidth=9, zorder=0)
    for point in (point for line in panel.distilled for point in line.points):
        if point.patched_blocks == knee.patched_blocks:
            axes.plot(point.parameters, point.value, **_RING, zorder=5)
            return


_RING: dict[str, Any] = {
    "marker": "o", "markersize": 11, "markerfacecolor": "none", "markeredgecolor": _DARK, "markeredgewidth": 1.4,
    "linestyle": "none",
}  # fmt: skip


def _set_scale(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    axes.set_ylabel(panel.label)
    if panel.logarithmic:
        axes.set_yscale("log")
        room = max(panel.high / panel.low, 1.01) ** 0.06
        axes.set_ylim(panel.low / room, panel.high * room)
        ratio = panel.high / panel.low
        axes.yaxis.set_major_locator(
            MaxNLocator(5, steps=_STEPS) if ratio < 5 else LogLocator(subs=(1, 2, 5) if ratio < 1000 else (1,))
        )
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        room = 0.06 * ((panel.high - panel.low) or abs(panel.high) or 1)
        axes.set_ylim(panel.low - room, panel.high + room)
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=_STEPS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
    axes.margins(x=0.07)
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _label_sizes(axes: Axes, result: SweepResult, teacher_layers: int) -> None:
    """Write parameters below and layers above, of the order that is the closest to the teacher."""
    rows = [row for row in result.rows if row.order == best_order(result.rows)]
    knee = result.recommended.knee if result.recommended else None
    ends = {0: "student", teacher_layers: "teacher"}
    first = [row for row in rows if row.layers in ends] + [row for row in rows if knee and row.layers == knee.layers]
    shown = _spread((row.parameters for row in (*first, *rows)), _TICKS_APART)
    names = {row.parameters: ends[row.layers] for row in rows if row.layers in ends}
    axes.set_xticks(shown, [f"{show_count(size)}\n{names.get(size, '')}" for size in shown])
    axes.set_xlabel("parameters")
    above = axes.secondary_xaxis("top")
    apart = 1 / _LAYERS_SHOWN if len(rows) > _LAYERS_SHOWN else 0.0
    depths = {row.parameters: row.depth for row in rows}
    placed = _spread((row.parameters for row in (*first, *rows)), apart)
    above.set_xticks(placed, [str(depths[size]) for size in placed])
    above.set_xlabel("layers")
    above.spines["top"].set_visible(False)


def _spread(sizes: Iterable[int], apart: float) -> list[int]:
    """Return those sizes that lie so far from all before them, as a share of all; the first come first."""
    wanted = list(dict.fromkeys(sizes))
    least = apart * (max(wanted) - min(wanted))
    kept: list[int] = []
    for size in wanted:
        if all(abs(size - other) >= max(least, 1) for other in kept):
            kept.append(size)
    return sorted(kept)


def _name_teacher(axes: Axes, panel: Panel, rows: Sequence[SweepRow], teacher_layers: int) -> None:
    """Draw a line at what the teacher scores, and name it beside the panel, where nothing can cross it."""
    blocks = {row.patched_blocks for row in rows if row.layers == teacher_layers}
    for point in (point for line in panel.distilled for point in line.points):
        if point.patched_blocks in blocks:
            axes.axhline(point.value, color=_DARK, linewidth=0.8, linestyle=":", zorder=1)
            score = f"\n{plain_number(point.value)}" if point.value else ""
            axes.annotate(
                f"teacher{score}", (1, point.value), xycoords=("axes fraction", "data"), xytext=(2, 0),
                textcoords="offset points", va="center", rotation=0, fontsize=8, color=_DARK,
            )  # fmt: skip
            return


def _write_around(figure: Figure, panels: Sequence[Panel], result: SweepResult, left_out: Sequence[str]) -> None:
    """Write the title, the legend, and what is not shown."""
    figure.suptitle(_title(result), fontsize=10, parse_math=False)
    note = f"left out, as they are no numbers: {_first_names(left_out)}" if left_out else ""
    legend = figure.legend(
        handles=_legend(panels, result), title=note, title_fontsize=8, loc="outside lower center", ncols=2,
        frameon=False, fontsize=8,
    )  # fmt: skip
    legend.get_title().set_parse_math(False)


def _first_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _title(result: SweepResult) -> str:
    lines = [f"Sizes between {last_part(result.student)} and {last_part(result.teacher)}"]
    if result.data:
        lines.append(f"scored on {_first_names([last_part(name) for name in result.data])}")
    return "\n".join(textwrap.shorten(line, _LONGEST_LINE, placeholder=" …") for line in lines)


def _legend(panels: Sequence[Panel], result: SweepResult) -> list[Artist]:
    from matplotlib.lines import Line2D

    def entry(label: str, **look: Any) -> Artist:
        artist = Line2D([], [], **look)
        artist.set_label(label)
        return artist

    shown: dict[tuple[str, ...], Line] = {line.orders: line for panel in panels for line in panel.distilled}
    entries = []
    for line in shown.values():
        colour, marker = _look(line.number)
        entries.append(entry(f"order {' = '.join(line.orders)}", color=colour, marker=marker, markersize=4.5))
    if any(panel.never_distilled for panel in panels):
        above = [f"{panel.name} {plain_number(panel.above)}" for panel in panels if panel.above is not None]
        beyond = f" (up to {', '.join(above)})" if above else ""
        entries.append(entry(f"never distilled{beyond}", **_never_distilled(0)))
    if result.recommended and (knee := result.recommended.knee):
        size = f"{knee.depth} layers, {show_count(knee.parameters)} parameters"
        entries.append(entry(f"recommended: {size} ({knee.order}, k = {knee.layers})", **_RING))
    if result.recommended and any(not result.recommended.is_on_front(row.patched_blocks) for row in result.rows):
        hollow: dict[str, Any] = {"color": _GREY, "marker": "o", "markerfacecolor": "white", "linestyle": "none"}
        entries.append(entry("hollow: a model as small is closer to the teacher", markersize=4.5, **hollow))
    return entries
