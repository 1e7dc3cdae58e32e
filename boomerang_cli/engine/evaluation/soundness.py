"""Whether the scores of a sweep can mean anything: what is told with them, where they cannot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from boomerang_cli.engine.evaluation.paired import PairedScores
from boomerang_cli.engine.evaluation.rows import SweepRow


def find_warnings(rows: Sequence[SweepRow], paired: PairedScores, *, blocks: int, vocabulary: int) -> tuple[str, ...]:
    """Return why these scores mean nothing, or less than they seem to; nothing where they are sound.

    Args:
        blocks: the number of patchable ones, the teacher's k.
        vocabulary: tokens that both models know.
    """
    student, teacher = (next((row for row in rows if row.layers == k), None) for k in (0, blocks))
    return (
        *_of_student(student, vocabulary),
        *(_of_ends(student, teacher, paired) if student and teacher and blocks else ()),
        *_of_noise(rows, paired),
    )


def _of_student(student: SweepRow | None, vocabulary: int) -> Iterator[str]:
    """Warn of a student that training has made worse than knowing nothing would be."""
    if student is None or student.perplexity is None or student.kl is None:
        return
    naive = student.baseline["kl"] if student.baseline else math.inf
    if student.perplexity >= vocabulary:
        yield (
            f"the student has a perplexity of {student.perplexity:.4g}, as if it guessed among all {vocabulary} "
            "tokens: it is not distilled, or its distillation diverged"
        )
    elif student.kl >= naive:
        yield (
            f"the student is farther from the teacher (KL {student.kl:.4g}) than before it was distilled "
            f"({naive:.4g}): its distillation diverged, or was on another kind of text"
        )


def _of_ends(student: SweepRow, teacher: SweepRow, paired: PairedScores) -> Iterator[str]:
    """Warn of a student that is as good as its teacher, or better: then sizes between them have nothing to gain."""
    worse = paired.difference("negative_log_likelihood", student.patched_blocks, teacher.patched_blocks)
    against = f"perplexity {student.perplexity:.4g} against {teacher.perplexity:.4g}"
    if worse.stderr is not None and worse.is_noise:
        yield (
            f"student and teacher are equally good on this text ({against}, less than a standard error apart): more "
            "or other text tells sizes apart"
        )
    elif worse.value < 0:
        yield (
            f"the student is better than the teacher on this text ({against}): nearer to the teacher is not better "
            "here; score on text like the teacher's own, not the student's"
        )


def _of_noise(rows: Sequence[SweepRow], paired: PairedScores) -> Iterator[str]:
    """Warn of text that is too little to tell neighbouring sizes of an order apart."""
    steps = [
        paired.difference("kl", one.patched_blocks, other.patched_blocks)
        for _, own in groupby(rows, key=lambda row: row.order)
        for one, other in pairwise(own)
    ]
    noise = sum(step.is_noise for step in steps)
    if len(paired.tokens) == 1:
        yield "one window of text has no standard error: give more text, or a shorter --sequence-length"
    elif steps and 2 * noise >= len(steps):
        yield (
            f"{noise} of {len(steps)} differences between neighbouring sizes are below their standard error: give "
            "more text, or more --sequences"
        )
