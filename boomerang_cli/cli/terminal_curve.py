"""The curve of a sweep in characters: a bar a size, distilled and never distilled."""

from __future__ import annotations

import math
from collections.abc import Sequence

from boomerang_cli.engine.evaluation.rows import SweepRow

BAR_CHARACTERS = 40


def terminal_curve(rows: Sequence[SweepRow]) -> str:
    """Return a line a size for the sizes of one order; bars are logarithmic, from the teacher's perplexity on."""
    pairs = [(row, row.perplexity, (row.baseline or {}).get("perplexity")) for row in rows]
    values = [value for _, *both in pairs for value in both if value is not None]
    if not values:
        return ""
    low, high = math.log(min(values)), math.log(max(values))

    def bar(value: float, character: str) -> str:
        share = (math.log(value) - low) / (high - low) if high > low else 0.0
        return f"{character * (1 + round(share * BAR_CHARACTERS))} {value:.2f}"

    lines = ["layers  perplexity (log scale): # distilled, . never distilled"]
    for row, distilled, never in pairs:
        lines += [f"{row.depth:>6}  {bar(distilled, '#')}"] if distilled is not None else []
        lines += [f"{'':>6}  {bar(never, '.')}"] if never is not None else []
    return "\n".join(lines)
