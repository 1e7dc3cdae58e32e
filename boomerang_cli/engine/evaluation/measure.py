"""The rows of a sweep, filled with what their models score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from boomerang_cli.engine.evaluation.evaluation import Evaluation
from boomerang_cli.engine.evaluation.harness import Harness
from boomerang_cli.engine.evaluation.rows import SweepRow
from boomerang_cli.engine.evaluation.scoring import Score
from boomerang_cli.engine.evaluation.variants import Variant


def measure_rows(
    rows: Sequence[SweepRow],
    evaluation: Evaluation,
    *,
    harness: Harness | None = None,
    speed: bool = False,
    baseline: bool = False,
) -> tuple[SweepRow, ...]:
    """Return the rows with their scores: text, all models together; then one model after another all else.

    A model that stands in several rows is scored once.

    Raises:
        ScoringError: see ``evaluation.Evaluation``.
    """
    rows = _with_text_scores(rows, evaluation, baseline=baseline)
    if speed:
        rows = _with_speed(rows, evaluation)
    if evaluation.prompts:
        rows = _with_samples(rows, evaluation)
    if harness is not None:
        rows = _with_tasks(rows, evaluation, harness)
    return tuple(rows)


def _with_text_scores(rows: Sequence[SweepRow], evaluation: Evaluation, *, baseline: bool) -> Sequence[SweepRow]:
    if evaluation.data is None:
        return rows
    variants = [Variant(row.patched_blocks) for row in rows]
    if baseline:
        variants += [Variant(row.patched_blocks, distilled=False) for row in rows]
    scores = evaluation.scores(list(dict.fromkeys(variants)), evaluation.data, "Scoring text")
    return [_with_score(row, scores) for row in rows]


def _with_score(row: SweepRow, scores: dict[Variant, Score]) -> SweepRow:
    score = scores[Variant(row.patched_blocks)]
    naive = scores.get(Variant(row.patched_blocks, distilled=False))
    return replace(
        row,
        perplexity=score.perplexity,
        perplexity_stderr=score.perplexity_stderr,
        kl=score.kl,
        kl_stderr=score.kl_stderr,
        top1=score.top1,
        acceptance=score.acceptance,
        baseline=None if naive is None else {"perplexity": naive.perplexity, "kl": naive.kl},
    )


def _with_speed(rows: Sequence[SweepRow], evaluation: Evaluation) -> Sequence[SweepRow]:
    measured = []
    for done, row in enumerate(rows):
        evaluation.tell("Measuring speed", done, len(rows))
        measured.append(replace(row, **asdict(evaluation.speed(Variant(row.patched_blocks)))))
    return measured


def _with_samples(rows: Sequence[SweepRow], evaluation: Evaluation) -> Sequence[SweepRow]:
    continued = []
    for done, row in enumerate(rows):
        evaluation.tell(f"Continuing prompts, {row.depth} layers", done, len(rows))
        continued.append(replace(row, samples=evaluation.samples(Variant(row.patched_blocks))))
    return continued


def _with_tasks(rows: Sequence[SweepRow], evaluation: Evaluation, harness: Harness) -> Sequence[SweepRow]:
    tasks = harness.settings.tasks
    measured = []
    for index, row in enumerate(rows):
        numbers: dict[str, dict[str, float]] = {}
        for position, task in enumerate(tasks):
            evaluation.tell(f"{task}, {row.depth} layers", index * len(tasks) + position, len(rows) * len(tasks))
            numbers |= evaluation.task(Variant(row.patched_blocks), task, harness)
        measured.append(replace(row, tasks=numbers))
    return measured
