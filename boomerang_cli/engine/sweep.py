"""``sweep``: what each size between a student and its teacher costs and gives, and which order is best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from boomerang_cli.engine.checkpoint.files import check_utf8
from boomerang_cli.engine.errors import SelectionError
from boomerang_cli.engine.evaluation.rows import SweepResult, find_misses, plan_rows
from boomerang_cli.engine.evaluation.sweep_models import check_models, write_models
from boomerang_cli.engine.evaluation.sweep_orders import find_orders, foreseen_orders, split_names
from boomerang_cli.engine.output.output_folder import check_output
from boomerang_cli.engine.output.planner import Planner
from boomerang_cli.engine.pair.pair import open_pair

if TYPE_CHECKING:
    from boomerang_cli.engine.evaluation.evaluation import StageProgress


def sweep(
    *,
    layers: Sequence[int] | None = None,
    order: Sequence[str] = ("auto",),
    data: Sequence[str] = (),
    calibration: Sequence[str] = (),
    sequences: int = 512,
    calibration_sequences: int = 64,
    sequence_length: int | None = None,
    stride: int | None = None,
    tasks: Sequence[str] = (),
    limit: int | None = None,
    num_fewshot: int | None = None,
    include_path: str | Path | None = None,
    batch_size: int | None = None,
    speed: bool = False,
    baseline: bool = False,
    beam: int = 1,
    yes: bool = False,
    write: bool = False,
    max_perplexity: float | None = None,
    max_kl: float | None = None,
    student: str | Path | None = None,
    teacher: str | Path | None = None,
    keep: Sequence[int] | None = None,
    output: str | Path = "sweep",
    dtype: str = "auto",
    device: str = "auto",
    overwrite: bool = False,
    dry_run: bool = False,
    on_progress: StageProgress | None = None,
    on_note: Callable[[str], None] = lambda note: None,
) -> SweepResult:
    """Score models of every size in memory, over the weights of one loaded pair.

    What is found out is kept in ``output`` at once, and the same call goes on where an earlier one stopped.

    Args:
        layers: which k; None is every one.
        order: of ``auto first last greedy exact nested`` and order files, each also as ``a,b``; they are compared.
        data, calibration, sequences, calibration_sequences, sequence_length, stride: see ``texts.TextSettings``.
        tasks, limit, num_fewshot, include_path: see ``harness.TaskSettings``.
        batch_size: windows, and examples of tasks, at once; None suits the device.
        speed: measure tokens per second, too.
        baseline: score the never-distilled student's sizes, too.
        beam, yes: see ``search.search_orders``.
        write: write each model to ``<output>/<depth>L``.
        max_perplexity, max_kl: bounds; rows that are worse are the result's ``misses``.
        student, teacher, keep: see ``pair.open_pair``.
        dtype, device: see ``session.open_evaluation``.
        dry_run: return the sizes to choose from, from headers alone.
        on_note: called with what is not as might be expected, such as files that are left out of a folder.

    Raises:
        BoomerangError: a pair, text, tasks or an output that cannot be used, or a device that is too small.
    """
    if beam < 1 or (batch_size is not None and batch_size < 1):
        raise SelectionError("--beam and --batch-size must be 1 or more")
    if overwrite:
        check_output(Path(output), "sweep", overwrite=True)
    pair = open_pair(student, teacher, keep=keep, download=not dry_run)
    check_utf8(Path(output), pair.student.folder, pair.teacher.folder)
    planner = Planner(pair)
    names = split_names(order)
    rows = plan_rows(foreseen_orders(names, pair), layers, planner)
    result = SweepResult(Path(output), pair.teacher.name, pair.student.name, tuple(data), rows)
    if dry_run:
        return result
    if write:
        check_models(rows, result.path)
    if on_progress:
        on_progress("Loading libraries", 0, 1)

    from boomerang_cli.engine.distillation.data import notes_on
    from boomerang_cli.engine.evaluation.harness import Harness, TaskSettings
    from boomerang_cli.engine.evaluation.measure import measure_rows
    from boomerang_cli.engine.evaluation.results import write_results
    from boomerang_cli.engine.evaluation.session import open_evaluation
    from boomerang_cli.engine.evaluation.texts import TextSettings, check_purpose, find_texts
    from boomerang_cli.engine.models.model_class import check_pair

    check_pair(pair)
    text = TextSettings(data, calibration, sequences, calibration_sequences, sequence_length, stride)
    texts = find_texts(text, pair)
    for note in notes_on((*texts.data, *texts.calibration)):
        on_note(note)
    include = Path(include_path) if include_path else None
    harness = Harness(TaskSettings(tasks, limit, num_fewshot, batch_size or "auto", include)) if tasks else None
    needs = {"--max-perplexity": max_perplexity, "--max-kl": max_kl, "--speed": speed, "--baseline": baseline}
    needing = [flag for flag, value in needs.items() if value is not None and value is not False]
    check_purpose(texts, names, needing, runs_tasks=harness is not None)
    with open_evaluation(
        pair,
        texts,
        result.path,
        dtype=dtype,
        device=device,
        batch_size=batch_size,
        overwrite=overwrite,
        on_progress=on_progress,
    ) as evaluation:
        orders = find_orders(names, pair, evaluation, beam=beam, yes=yes)
        rows = plan_rows(orders, layers, planner)
        if write:
            check_models(rows, result.path)
        rows = measure_rows(rows, evaluation, harness=harness, speed=speed, baseline=baseline)
        misses = find_misses(rows, max_perplexity, max_kl)
        scored_on = tuple(source.name for source in texts.data)
        result = replace(result, data=scored_on, rows=rows, misses=misses)
        write_results(result, orders, pair.layer_map)
        if write:
            write_models(rows, planner, result.path, evaluation.tell)
    return result
