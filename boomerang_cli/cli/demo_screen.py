"""How a demo ends: one screen with the table, the curve, what was seen and why, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from boomerang_cli.cli.sweep_text import sweep_text
from boomerang_cli.engine.evaluation.rows import SweepResult, SweepRow, best_order

if TYPE_CHECKING:
    from boomerang_cli.cli.output import Output
    from boomerang_cli.engine.demo import DemoResult

WIDTH = 80


def show_samples(out: Output, swept: SweepResult) -> None:
    """Tell how student, teacher and the sizes between go on from the demo's prompt, where they were asked to."""
    for row in _best_rows(swept.rows):
        for sample in row.samples or ():
            out.note(
                f"--- {row.depth} layers{_who(row, swept.rows)} write:\n{sample['prompt']}{sample['text'].rstrip()}\n"
            )


def show_end(out: Output, result: DemoResult) -> None:
    """Print the last screen: the scores on stdout, the words around them on stderr."""
    swept = result.sweep
    out.note("")
    out.result(swept, sweep_text(swept.rows, swept.recommended, curve=True, width=WIDTH)[0])
    out.note("* on the front: no other size with as few parameters is as close to the teacher")
    out.note(f"\n{what_was_seen(swept.rows)}\n")
    for warning in swept.warnings:
        out.note(f"warning: {warning}")
    out.note(f"picture: {swept.path / 'curve.png'}")
    out.hint(f"cd {shlex.quote(str(result.path))} && boomerang patch --layers 3", "make another size")
    out.hint(shlex.join(["boomerang", "info", str(result.path / "student")]), "look at the student")
    out.hint("boomerang init-student OWNER/NAME", "begin with a teacher of your own")


def what_was_seen(rows: Sequence[SweepRow]) -> str:
    """Return one line: how far the sizes that nobody trained are from the teacher, and why.

    Args:
        rows: scored, with the baseline.
    """
    best = _best_rows(rows)
    between = best[1:-1]
    closer = sum(_kl(row) < _baseline_kl(row) for row in between)
    mean, without = (sum(map(kl, between)) / len(between) for kl in (_kl, _baseline_kl))
    seen = (
        f"seen: {closer} of {len(between)} untrained sizes are closer to the teacher than without distilling "
        f"(mean KL {mean:.3f}, not {without:.3f})"
    )
    if mean >= without:
        return f"{seen}: after so few steps, layers have not learnt their blocks' outputs"
    return f"{seen}: layers learnt their blocks' outputs, so blocks fit in"


def _best_rows(rows: Sequence[SweepRow]) -> list[SweepRow]:
    """Return the rows of the order that is closest to the teacher, from the student to the teacher."""
    best = best_order(rows)
    return sorted((row for row in rows if row.order == best), key=lambda row: row.layers)


def _who(row: SweepRow, rows: Sequence[SweepRow]) -> str:
    names = {0: " (student)", max(each.layers for each in rows): " (teacher)"}
    return names.get(row.layers, "")


def _kl(row: SweepRow) -> float:
    assert row.kl is not None
    return row.kl


def _baseline_kl(row: SweepRow) -> float:
    assert row.baseline is not None
    return row.baseline["kl"]
