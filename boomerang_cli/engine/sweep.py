"""``sweep``: what each size between a student and its teacher costs and gives, and which order is best."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from boomerang_cli.engine.checkpoint.files import check_utf8
from boomerang_cli.engine.errors import DataError, SelectionError
from boomerang_cli.engine.evaluation.orders import SEARCHED
from boomerang_cli.engine.evaluation.rows import SweepResult, find_misses, plan_rows
from boomerang_cli.engine.evaluation.sweep_models import check_models, write_models
from boomerang_cli.engine.output.output_folder import check_output
from boomerang_cli.engine.output.planner import Planner
from boomerang_cli.engine.pair.order import Order, find_order
from boomerang_cli.engine.pair.pair import Pair, open_pair

if TYPE_CHECKING:
    from boomerang_cli.engine.evaluation.evaluation import Evaluation, StageProgress
    from boomerang_cli.engine.evaluation.harness import Harness
    from boomerang_cli.engine.evaluation.texts import Texts


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
    names = list(dict.fromkeys(name.strip() for given in order for name in given.split(",")))
    orders = _distinct(named_order(name, pair) for name in names)
    rows = plan_rows(orders, layers, planner)
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
    from boomerang_cli.engine.evaluation.texts import TextSettings, find_texts
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
    _check_purpose(texts, harness, names, needing)
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
        orders = _search(names, pair, evaluation, beam=beam, yes=yes)
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


def named_order(name: str, pair: Pair) -> Order:
    """Return an order that needs no search; of one that does, the sizes as the student's own order has them."""
    given = "auto" if name in SEARCHED else name
    order = find_order(given, pair.layer_map, pair.student_config.order, pair.family.order)
    return replace(order, name=name) if name in SEARCHED else order


def _search(names: Sequence[str], pair: Pair, evaluation: Evaluation, *, beam: int, yes: bool) -> list[Order]:
    from boomerang_cli.engine.evaluation.search import search_orders

    searched = [name for name in names if name in SEARCHED]
    if not searched:
        return _distinct(named_order(name, pair) for name in names)
    assert evaluation.calibration is not None
    found = search_orders(searched, pair.layer_map.patchable, evaluation, evaluation.calibration, beam=beam, yes=yes)
    return _distinct(found.get(name) or named_order(name, pair) for name in names)


def _distinct(orders: Iterable[Order]) -> list[Order]:
    """Leave out orders that are named twice, and number different ones of one name."""
    distinct: list[Order] = []
    for order in orders:
        if order in distinct:
            continue
        same_name = sum(other.name == order.name for other in distinct)
        distinct.append(replace(order, name=f"{order.name}-{same_name + 1}") if same_name else order)
    return distinct


def _check_purpose(texts: Texts, harness: Harness | None, names: Sequence[str], need_text: Sequence[str]) -> None:
    """Refuse a sweep that nothing would be scored on."""
    searched = [f"--order {name}" for name in names if name in SEARCHED]
    if searched and not (texts.data or texts.calibration):
        raise DataError(f"{searched[0]} is searched on text: give --data or --calibration")
    if not texts.data and need_text:
        raise DataError(f"{need_text[0]} needs text to score on: give --data")
    if not texts.data and harness is None:
        raise DataError(
            f"nothing to score on, as {texts.lacking}: give --data or --tasks, or --dry-run to see the sizes"
        )
