"""The picture of a sweep in characters: a line a size, a letter an order, two measures side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from boomerang_cli.cli.style import PLAIN, Style
from boomerang_cli.engine.evaluation.panels import Line, Panel, panels_of, plain_number
from boomerang_cli.engine.evaluation.pareto import Recommendation
from boomerang_cli.engine.evaluation.rows import SweepRow
from boomerang_cli.engine.sizes import show_count

WIDTH = 80
_LEFT = 25
"""Characters for layers, parameters, and who stands at the ends."""
_NEVER, _SEVERAL, _BEYOND = ".", "*", ">"

_Size = tuple[int, int]
"""Parameters and layers."""
_Mark = tuple[str, int | None]
"""A character, and the number of the order that it stands for; None where it is of none, or of several."""


def terminal_curve(
    rows: Sequence[SweepRow], recommended: Recommendation | None = None, *, width: int = WIDTH, style: Style = PLAIN
) -> str:
    """Return the panels of a sweep, two beside one another, with a line a size; nothing if nothing was measured."""
    panels = panels_of(rows)
    if not panels:
        return ""
    letters = _letters(panels)
    pairs = [panels[start : start + 2] for start in range(0, len(panels), 2)]
    cells = max(10, (width - _LEFT) // len(pairs[0]) - 2)
    blocks = ["\n".join(_block(pair, rows, recommended, letters, cells, style)) for pair in pairs]
    return "\n\n".join([*blocks, _legend(panels, recommended, letters, style)])


def _letters(panels: Sequence[Panel]) -> Mapping[int, str]:
    """Return a letter of its own for each order's number: the first of its name that is free."""
    letters: dict[int, str] = {}
    for line in (line for panel in panels for line in panel.distilled):
        if line.number not in letters:
            free = (each for each in f"{line.orders[0]}abcdefghijklmnopqrstuvwxyz" if each not in letters.values())
            letters[line.number] = next(free, "?")
    return letters


def _block(
    panels: Sequence[Panel],
    rows: Sequence[SweepRow],
    recommended: Recommendation | None,
    letters: Mapping[int, str],
    cells: int,
    style: Style,
) -> Iterator[str]:
    headings = [f" {panel.name + (' (log)' if panel.logarithmic else ''):{cells}} " for panel in panels]
    yield style.bold(" layers  parameters".ljust(_LEFT) + "".join(headings).rstrip())
    yield (" " * _LEFT + "".join(f" {_scale(panel, cells)} " for panel in panels)).rstrip()
    knee = recommended.knee if recommended else None
    for size, name in _sizes(rows).items():
        is_knee = knee is not None and size == (knee.parameters, knee.depth)
        left = f"{'>' if is_knee else ' '}{size[1]:>6}  {show_count(size[0]):>7} {name:<7}"[:_LEFT].ljust(_LEFT)
        plots = "".join("|" + _plot(panel, size, cells, letters, style) + " " for panel in panels)
        yield (style.bold(left) if is_knee else left) + plots.rstrip()


def _sizes(rows: Sequence[SweepRow]) -> Mapping[_Size, str]:
    """Return the sizes, ascending, and what those at the ends are: a model without a distance is the teacher."""
    names = {(row.parameters, row.depth): _name(row) for row in rows}
    return dict(sorted(names.items()))


def _name(row: SweepRow) -> str:
    return "student" if row.layers == 0 else "teacher" if row.kl is not None and row.kl < 1e-6 else ""


def _scale(panel: Panel, cells: int) -> str:
    low, high = (plain_number(value) for value in (panel.low, panel.high))
    return low + high.rjust(cells - len(low))


def _plot(panel: Panel, size: _Size, cells: int, letters: Mapping[int, str], style: Style) -> str:
    """Return a line of one panel: the letter of each order where its model of this size stands."""
    placed: dict[int, _Mark] = {}
    for line in panel.never_distilled:
        placed |= {place: (_BEYOND if place == cells else _NEVER, None) for place in _places(panel, line, size, cells)}
    own: dict[int, _Mark] = {}
    for line in panel.distilled:
        for place in _places(panel, line, size, cells):
            own[place] = (_SEVERAL, None) if place in own else (letters[line.number], line.number)
    marks = {min(place, cells - 1): mark for place, mark in [*placed.items(), *own.items()]}
    return "".join(_written(marks.get(place), style) for place in range(cells))


def _places(panel: Panel, line: Line, size: _Size, cells: int) -> Iterator[int]:
    """Yield in which cell the line's models of a size stand; ``cells`` is beyond the panel."""
    for point in line.points:
        if (point.parameters, point.depth) == size:
            share = panel.share(point.value)
            yield cells if share > 1 else round(share * (cells - 1))


def _written(mark: _Mark | None, style: Style) -> str:
    if mark is None:
        return " "
    character, number = mark
    if number is not None:
        return style.coloured(character, number)
    return style.bold(character) if character == _SEVERAL else style.faint(character)


def _legend(
    panels: Sequence[Panel], recommended: Recommendation | None, letters: Mapping[int, str], style: Style
) -> str:
    names = {line.number: " = ".join(line.orders) for panel in panels for line in panel.distilled}
    entries = [f"{style.coloured(letters[number], number)} {name}" for number, name in names.items()]
    entries += [f"{style.bold(_SEVERAL)} several of them"] if len(names) > 1 else []
    never = []
    if any(panel.never_distilled for panel in panels):
        above = [f"{panel.name} {plain_number(panel.above)}" for panel in panels if panel.above is not None]
        beyond = f"; {style.faint(_BEYOND)} those beyond, up to {', '.join(above)}" if above else ""
        never.append(f"{style.faint(_NEVER)} never distilled{beyond}")
    lines = ["  ".join(entries), *never]
    if recommended and (knee := recommended.knee):
        size = f"{knee.depth} layers, {show_count(knee.parameters)} parameters"
        lines.append(f"{style.bold('>')} recommended: {size} ({knee.order}, k = {knee.layers})")
    return "\n".join(lines)
