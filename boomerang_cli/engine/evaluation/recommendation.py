"""Which size a sweep recommends: what its scores alone can say, with the errors of differences, not of scores."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from boomerang_cli.engine.evaluation.paired import PairedScores
from boomerang_cli.engine.evaluation.pareto import Recommendation, Size
from boomerang_cli.engine.evaluation.rows import SweepRow, best_order
from boomerang_cli.engine.sizes import show_count

ONE_ERROR, ELBOW, ONLY = "one standard error", "elbow", "only size"


def recommend(rows: Sequence[SweepRow], paired: PairedScores) -> Recommendation:
    """Return the sizes on the Pareto front of parameters and KL to the teacher, and the knee.

    The knee is the smallest size on the front that is within one standard error, paired by window, of the next larger
    one there: what a step up gains cannot be told from noise. Where every step gains more, it is the elbow: the size
    that lies farthest below the straight line between both ends of the front (Satopaa and others, Finding a "Kneedle"
    in a Haystack, 2011; both axes from 0 to 1). A front without a size below that line has none.

    Args:
        rows: scored, all of them.
    """
    front = _front(rows)
    gains = [paired.difference("kl", one.patched_blocks, other.patched_blocks) for one, other in pairwise(front)]
    sizes = tuple(
        Size(
            order=row.order,
            layers=row.layers,
            depth=row.depth,
            parameters=row.parameters,
            patched_blocks=row.patched_blocks,
            kl=_kl(row),
            gain=gains[index].value if index < len(gains) else None,
            gain_stderr=gains[index].stderr if index < len(gains) else None,
        )
        for index, row in enumerate(front)
    )
    return _with_knee(sizes)


def _front(rows: Sequence[SweepRow]) -> list[SweepRow]:
    """Return the rows that no row with as few parameters is closer than, each model once, smaller ones first."""
    best = best_order(rows)
    front: list[SweepRow] = []
    for row in sorted(rows, key=lambda row: (row.parameters, _kl(row), row.order != best)):
        if not front or _kl(row) < _kl(front[-1]):
            front.append(row)
    return front


def _with_knee(sizes: tuple[Size, ...]) -> Recommendation:
    if len(sizes) == 1:
        return _told(sizes, sizes[0], ONLY, "no other size is as close to the teacher with as few parameters")
    for size, larger in pairwise(sizes):
        if size.gain is not None and size.gain_stderr is not None and size.gain <= size.gain_stderr:
            return _told(
                sizes,
                size,
                ONE_ERROR,
                f"the smallest size within one standard error of the next larger, {_named(larger)}: "
                f"KL {size.kl:.4f} against {larger.kl:.4f}, {size.gain:.4f} ± {size.gain_stderr:.4f} apart",
            )
    if (elbow := _elbow(sizes)) is not None:
        last = sizes[-1]
        reason = (
            f"every step up gains more than its standard error, and none as much for its parameters as those up to "
            f"here: KL {sizes[0].kl:.4f} at {show_count(sizes[0].parameters)}, {elbow.kl:.4f} here, {last.kl:.4f} at "
            f"{show_count(last.parameters)}"
        )
        return _told(sizes, elbow, ELBOW, reason)
    return _told(sizes, None, None, "every step up gains as much for its parameters as those before: choose by a bound")


def _elbow(sizes: Sequence[Size]) -> Size | None:
    """Return the size farthest below the straight line between both ends; None if none is below it."""
    first, last = sizes[0], sizes[-1]

    def below(size: Size) -> float:
        along = (size.parameters - first.parameters) / (last.parameters - first.parameters)
        return 1 - along - (size.kl - last.kl) / (first.kl - last.kl)

    elbow = max(sizes, key=below)
    return elbow if below(elbow) > 1e-9 else None


def _told(sizes: tuple[Size, ...], knee: Size | None, rule: str | None, reason: str) -> Recommendation:
    return Recommendation("kl", sizes, knee, rule, reason)


def _named(size: Size) -> str:
    return f"{size.order} k={size.layers}"


def _kl(row: SweepRow) -> float:
    assert row.kl is not None, "all rows are scored"
    return row.kl
