"""``sweep``: what each size between a student and its teacher costs and gives, and which order is best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boomerang_cli.engine.checkpoint.files import check_utf8, texts_of
from boomerang_cli.engine.checkpoint.fingerprint import fingerprint
from boomerang_cli.engine.errors import SelectionError, check_least
from boomerang_cli.engine.evaluation.asked import Asked, TaskSettings
from boomerang_cli.engine.evaluation.placement_plan import SweepPlan, plan_placement
from boomerang_cli.engine.evaluation.recommendation import recommend
from boomerang_cli.engine.evaluation.rows import SweepResult, find_misses, misreaders_of, plan_rows
from boomerang_cli.engine.evaluation.soundness import find_warnings
from boomerang_cli.engine.evaluation.sweep_models import check_models, write_models
from boomerang_cli.engine.evaluation.sweep_orders import find_orders, foreseen_orders, split_names
from boomerang_cli.engine.evaluation.text_settings import TextSettings
from boomerang_cli.engine.output.output_folder import check_output
from boomerang_cli.engine.output.planner import Planner
from boomerang_cli.engine.pair.bounds import read_bounds
from boomerang_cli.engine.pair.pair import open_pair
from boomerang_cli.engine.processes.machine import Machine, check_for_plan

if TYPE_CHECKING:
    from boomerang_cli.engine.evaluation.evaluation import Evaluation, StageProgress
    from boomerang_cli.engine.pair.pair import Pair


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
    apply_chat_template: bool = False,
    system_instruction: str | None = None,
    gen_kwargs: str | Mapping[str, Any] | None = None,
    fewshot_as_multiturn: bool | None = None,
    prompt: Sequence[str] = (),
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
    gpus: int | None = None,
    gpu_memory: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    on_progress: StageProgress | None = None,
    on_note: Callable[[str], None] = lambda note: None,
) -> SweepResult:
    """Score models of every size in memory, over the weights of one loaded pair.

    What is found out is kept in ``output`` at once, and the same call goes on where an earlier one stopped. In a
    process that torchrun started, this is one part of the same sweep, with the same result in all; rank 0 alone writes.
    One text, order, task or prompt may stand without a list.

    Args:
        layers (Sequence[int], optional): the sizes by k, the number of patched blocks; None is every one, 0 (the
            student) to n (the teacher).
        order (Sequence[str], default ("auto",)): which blocks are patched first: ``auto`` (what the student records,
            else the family's), ``first``, ``last``, the searched ``greedy``, ``exact`` (the best set of each size) and
            ``nested`` (the best sequence), or paths of order files; each also as ``"a,b"``. Several are compared.
        data (Sequence[str], default ()): text to score on: Hub datasets ``owner/name[:config[:split]][@revision]``,
            ``.txt``, ``.jsonl``, ``.json``, ``.csv`` or ``.parquet`` files, also compressed, or folders of them; empty
            is what the student's distillation was evaluated on.
        calibration (Sequence[str], default ()): text to search orders on, named like ``data``; empty is the beginning
            of ``data``.
        sequences (int, default 512): windows of ``data``, at most.
        calibration_sequences (int, default 64): windows of ``calibration``, at most.
        sequence_length (int, optional): tokens in a window, 2 at least; None is the teacher's positions, 2048 at most.
        stride (int, optional): tokens from the beginning of a window to that of the next; None is the window's length.
        tasks (Sequence[str], default ()): names of lm-eval's tasks (extra ``eval``).
        limit (int, optional): examples of each task; None is all.
        num_fewshot (int, optional): examples in a task's context; None is the task's own number.
        include_path (str | Path, optional): a folder of task definitions beside lm-eval's own.
        apply_chat_template (bool, default False): put the examples of tasks as chats, by the teacher's template.
        system_instruction (str, optional): what such a chat, and that of a prompt, begins with.
        gen_kwargs (str | Mapping[str, Any], optional): how tasks generate, as lm-eval takes it:
            ``"temperature=0.7,top_p=0.8"``, or a mapping.
        fewshot_as_multiturn (bool, optional): the examples in a task's context are turns of the chat; None is so with
            the template.
        prompt (Sequence[str], default ()): texts that every size continues greedily, as a chat where the teacher has a
            template for it; the answers are each row's ``samples``, and stand in ``samples.md``.
        batch_size (int, optional): windows, and examples of tasks, at once; None suits the device.
        speed (bool, default False): measure tokens per second, and peak memory on a GPU, too.
        baseline (bool, default False): score the never-distilled student's sizes, too.
        beam (int, default 1): how many sets of each size ``greedy`` goes on from.
        yes (bool, default False): search ``exact`` and ``nested`` even if that takes longer than half an hour.
        write (bool, default False): write each model to ``<output>/<depth>L``.
        max_perplexity (float, optional): a bound; rows with a higher perplexity are among the result's ``misses``.
        max_kl (float, optional): likewise, of the KL divergence to the teacher in nats a token.
        student (str | Path, optional): a folder or ``owner/name[@revision]`` on the Hub. None is BOOMERANG_STUDENT,
            else the current folder if it is a student, else ``./student``.
        teacher (str | Path, optional): a folder, or ``owner/name[@revision]`` on the Hub. None is BOOMERANG_TEACHER,
            else what the student records, else that of a published student.
        keep (Sequence[int], optional): the teacher layers that the student copied, ascending from 0; for a student
            that does not record them.
        output (str | Path, default "sweep"): the folder of results: ``results.json``, ``results.csv``, ``order.json``,
            ``curve.png``, ``curve.svg``, ``samples.md``.
        dtype (str, default "auto"): of the computation: ``float32``, ``bfloat16`` or ``float16``; ``auto`` is float32
            on the CPU, else bfloat16.
        device (str, default "auto"): torch's name; ``auto`` is a GPU where there is one, else ``cpu``.
        gpus (int, optional): that this process may spread layers over, where one does not hold both models; None is
            one, or its share of the machine's in a process that torchrun started. With ``dry_run``, how many to plan
            for.
        gpu_memory (str, optional): with ``dry_run``, the memory of each, such as ``80GB``. None is that of this
            machine's.
        overwrite (bool, default False): replace an earlier sweep.
        dry_run (bool, default False): return a ``SweepPlan``: the sizes to choose from, and how models would be placed
            and work shared out, from headers alone; a searched order has the sizes of ``auto``.
        on_progress (Callable[[str, int, int], None], optional): called at rank 0 with what is being done, how much of
            it is done, and how much there is.
        on_note (Callable[[str], None], optional): called with what is not as might be expected, such as files that are
            left out of a folder, and with what a search of all sets will take.

    Returns:
        A ``SweepResult``: ``path rows recommended misses warnings`` and more; a row is a ``SweepRow``: ``layers depth
        parameters bytes order patched_blocks perplexity kl top1 acceptance`` and more. With ``dry_run`` a
        ``SweepPlan``, which has ``placement`` too.

    Raises:
        ModelNotFoundError: a student or teacher that is not there; says which parameter to give.
        CheckpointError, UnsupportedModelError: model files that are damaged, or of an unknown family.
        PairError: a student and a teacher that do not belong together.
        SelectionError: sizes or an order that the pair does not have.
        DataError: text that is missing, unreadable or too little, or nothing to score on.
        TrainingError: windows that are longer than the teacher has positions for.
        ScoringError: a device that is not there or too small, an unknown task, a search that would take too long; a
            prompt that is empty or too long, or a chat without a template for it.
        ProcessError: fewer GPUs than ``gpus``, or to plan for some of an unknown size; or one of several processes was
            lost.
        OutputError: the output holds something else, or cannot be written.
        HubError: the Hub refuses, fails, or is out of reach.
    """
    order, data, calibration, tasks, prompt = map(texts_of, (order, data, calibration, tasks, prompt))
    check_least(1, SelectionError, beam=beam, batch_size=batch_size, gpus=gpus)
    text = TextSettings(data, calibration, sequences, calibration_sequences, sequence_length, stride)
    read_bounds(max_kl=max_kl, max_perplexity=max_perplexity)
    check_for_plan(dry_run, gpu_memory=gpu_memory)
    asked = Asked(
        TaskSettings(
            tasks,
            limit,
            num_fewshot,
            batch_size or "auto",
            Path(include_path) if include_path else None,
            apply_chat_template,
            system_instruction,
            gen_kwargs,
            fewshot_as_multiturn,
        ),
        tuple(dict.fromkeys(prompt)),
    )
    if overwrite:
        check_output(Path(output), "sweep", overwrite=True)
    pair = open_pair(student, teacher, keep=keep, download=not dry_run)
    check_utf8(Path(output), pair.student.folder, pair.teacher.folder)
    planner = Planner(pair)
    names = split_names(order)
    rows = plan_rows(foreseen_orders(names, pair), layers, planner)
    result = SweepResult(
        Path(output),
        pair.teacher.name,
        pair.student.name,
        tuple(data),
        rows,
        asked=asked.as_json(),
        fingerprints={"student": fingerprint(pair.student), "teacher": fingerprint(pair.teacher)},
    )
    if dry_run:
        machine = Machine.of(gpus, gpu_memory, device)
        asks = [name for name, is_asked in {"prompts": prompt, "tasks": tasks, "speed": speed}.items() if is_asked]
        placement = plan_placement(pair, machine, dtype=dtype, orders=names, asks=asks)
        return SweepPlan(**{**vars(result), "misreaders": misreaders_of(rows, planner)}, placement=placement)
    if write:
        check_models(rows, result.path)
    if on_progress:
        on_progress("Loading libraries", 0, 1)

    from boomerang_cli.engine.distillation.data import notes_on
    from boomerang_cli.engine.evaluation.devices import own_devices
    from boomerang_cli.engine.evaluation.harness import Harness
    from boomerang_cli.engine.evaluation.measure import measure_rows
    from boomerang_cli.engine.evaluation.prompts import read_questions
    from boomerang_cli.engine.evaluation.results import write_results
    from boomerang_cli.engine.evaluation.session import open_evaluation
    from boomerang_cli.engine.evaluation.swept import digests_and_samples_of
    from boomerang_cli.engine.evaluation.texts import check_purpose, find_texts
    from boomerang_cli.engine.models.model_class import check_pair
    from boomerang_cli.engine.models.same_layers import check_plans
    from boomerang_cli.engine.processes.failing_together import failing_together
    from boomerang_cli.engine.processes.group import connect, decide, rank

    check_plans((planner.plan(row.patched_blocks) for row in rows), pair.teacher, pair.family)
    check_pair(pair)
    texts = find_texts(text, pair)
    for note in notes_on((*texts.data, *texts.calibration)):
        on_note(note)
    questions = read_questions(asked, pair)
    harness = Harness(asked.tasks) if tasks else None
    if harness:
        harness.check_reachable()
    needs = {"--max-perplexity": max_perplexity, "--max-kl": max_kl, "--speed": speed, "--baseline": baseline}
    needing = [flag for flag, value in needs.items() if value is not None and value is not False]
    check_purpose(texts, names, needing, asks=bool(tasks or prompt))
    connect()
    devices = own_devices(device, gpus)
    tell = on_progress if on_progress and rank() == 0 else lambda stage, done, total: None
    with (
        failing_together(lambda: f"the same command goes on from what is kept in {output}", on_note),
        open_evaluation(
            pair,
            texts,
            questions,
            result.path,
            dtype=dtype,
            devices=devices,
            batch_size=batch_size,
            overwrite=overwrite,
            tell=tell,
            on_note=on_note,
        ) as evaluation,
    ):
        if pair.warning:
            on_note(pair.warning)
        orders = find_orders(names, pair, evaluation, beam=beam, yes=yes, on_note=on_note)
        foreseen = {row.patched_blocks for row in rows}
        rows = plan_rows(orders, layers, planner)
        found = (planner.plan(row.patched_blocks) for row in rows if row.patched_blocks not in foreseen)
        check_plans(found, pair.teacher, pair.family)
        if write:
            check_models(rows, result.path)
        rows = measure_rows(rows, evaluation, harness=harness, speed=speed, baseline=baseline)
        misses = find_misses(rows, max_perplexity, max_kl)
        scored_on = tuple(source.name for source in texts.data)
        result = replace(result, data=scored_on, rows=rows, misses=misses, misreaders=misreaders_of(rows, planner))
        result = _judged(result, evaluation, pair)
        result = replace(result, sha256=decide(lambda: digests_and_samples_of(pair)))
        decide(lambda: write_results(result, orders, pair.layer_map, on_note))
        if write:
            decide(lambda: write_models(rows, orders, planner, result.path, evaluation.tell))
    return result


def _judged(result: SweepResult, evaluation: Evaluation, pair: Pair) -> SweepResult:
    """Return the result with what follows from its scores, where a text was scored."""
    if evaluation.data is None:
        return result
    paired = evaluation.paired([row.patched_blocks for row in result.rows])
    return replace(
        result,
        recommended=recommend(result.rows, paired),
        warnings=find_warnings(
            result.rows, paired, blocks=len(pair.layer_map.patchable), vocabulary=pair.vocabulary_size
        ),
    )
