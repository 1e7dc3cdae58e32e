"""What a picture of a sweep shows, for a file or a terminal: a panel a measure, in each a line an order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from boomerang_cli.engine.evaluation.rows import SweepRow

_ROOM = 1.6
"""How much of a panel's height there is for what the distilled models take, at most: the choice is among these."""


class Point(NamedTuple):
    """A model in a panel; ``error`` is a standard error, 0 where there is none."""

    parameters: int
    depth: int
    value: float
    error: float
    patched_blocks: tuple[int, ...]


@dataclass(frozen=True)
class Line:
    """The models of orders that score alike, smaller ones first.

    Attributes:
        number: of the first of these orders among all, from 0: for its colour and its marker.
    """

    orders: tuple[str, ...]
    number: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Panel:
    """One measure of all models.

    Attributes:
        name: short, for a terminal.
        label: with its unit.
        logarithmic: whether ratios are what counts.
        low, high: the values that it reaches from and to; those of never-distilled models may lie above.
        distilled, never_distilled: lines; the second are of the same blocks in a student that was not distilled.
        above: the highest value beyond ``high``; None if there is none.
        left_out: what is no number and so is not shown: ``KL of first k=1``.
    """

    name: str
    label: str
    logarithmic: bool
    low: float
    high: float
    distilled: tuple[Line, ...]
    never_distilled: tuple[Line, ...]
    above: float | None
    left_out: tuple[str, ...]

    def share(self, value: float) -> float:
        """Return how far up a value stands, from 0 to 1; more than 1 above the panel."""
        if self.high <= self.low:
            return 0.0
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


_Value = Callable[[SweepRow], float | None]


@dataclass(frozen=True)
class _Measure:
    name: str
    label: str
    logarithmic: bool
    value: _Value
    error: _Value
    baseline: _Value = lambda row: None

    def can_show(self, value: float) -> bool:
        return math.isfinite(value) and (value > 0 or not self.logarithmic)


def panels_of(rows: Sequence[SweepRow]) -> tuple[Panel, ...]:
    """Return a panel for each measure that rows have: KL divergence, perplexity, and the first number of each task."""
    return tuple(panel for measure in _measures(rows) if (panel := _panel(measure, rows)) is not None)


def _measures(rows: Sequence[SweepRow]) -> Iterator[_Measure]:
    yield _Measure(
        "KL", "KL divergence to the teacher\n(nats a token)", False, lambda row: row.kl, lambda row: row.kl_stderr,
        lambda row: (row.baseline or {}).get("kl"),
    )  # fmt: skip
    yield _Measure(
        "perplexity", "perplexity", True, lambda row: row.perplexity, lambda row: row.perplexity_stderr,
        lambda row: (row.baseline or {}).get("perplexity"),
    )  # fmt: skip
    names = {task: name for row in reversed(rows) for task, found in (row.tasks or {}).items() for name in [*found][:1]}
    for task, name in sorted(names.items()):
        yield _Measure(f"{task} {name}", f"{task}: {name}", False, _task(task, name), _task(task, f"{name}_stderr"))


def _task(task: str, name: str) -> _Value:
    return lambda row: (row.tasks or {}).get(task, {}).get(name)


def _panel(measure: _Measure, rows: Sequence[SweepRow]) -> Panel | None:
    distilled, never = (_lines(rows, value, measure) for value in (measure.value, measure.baseline))
    ours, all_values = _values(distilled), _values((*distilled, *never))
    if not all_values:
        return None
    low = 0.0 if measure.name == "KL" else min(all_values)
    high = min(max(all_values), _top(low, max(ours), measure.logarithmic) if ours else math.inf)
    return Panel(
        name=measure.name,
        label=measure.label,
        logarithmic=measure.logarithmic,
        low=low,
        high=high,
        distilled=distilled,
        never_distilled=never,
        above=max(all_values) if max(all_values) > high else None,
        left_out=(
            *_left_out(rows, measure.value, measure),
            *(f"never-distilled {each}" for each in _left_out(rows, measure.baseline, measure)),
        ),
    )


def _top(low: float, highest: float, logarithmic: bool) -> float:
    """Return where a panel ends in which the distilled models, up to ``highest``, can be told apart."""
    if highest <= low:
        return math.inf
    return low * (highest / low) ** _ROOM if logarithmic else low + _ROOM * (highest - low)


def _lines(rows: Sequence[SweepRow], value: _Value, measure: _Measure) -> tuple[Line, ...]:
    """Return each line once, with the names of all orders that share it; those without points are left out.

    Args:
        value: the measure's own, or that of the never-distilled models.
    """
    names = list(dict.fromkeys(row.order for row in rows))
    lines: dict[tuple[Point, ...], list[str]] = {}
    for name in names:
        points = []
        for row in rows:
            if row.order == name and (found := value(row)) is not None and measure.can_show(found):
                error = measure.error(row) if value is measure.value else None
                points.append(Point(row.parameters, row.depth, found, error or 0.0, row.patched_blocks))
        lines.setdefault(tuple(sorted(points)), []).append(name)
    return tuple(Line(tuple(orders), names.index(orders[0]), points) for points, orders in lines.items() if points)


def _values(lines: Sequence[Line]) -> list[float]:
    return [point.value for line in lines for point in line.points]


def _left_out(rows: Sequence[SweepRow], value: _Value, measure: _Measure) -> Iterator[str]:
    for row in rows:
        if (found := value(row)) is not None and not measure.can_show(found):
            yield f"{measure.name} of {row.order} k={row.layers}"


def plain_number(value: float) -> str:
    """Return three digits without an exponent: ``112,000``."""
    return f"{float(f'{value:.3g}'):,.12g}"
