"""``boomerang sweep``."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from boomerang_cli.cli import options, panels
from boomerang_cli.cli import sweep_options as of
from boomerang_cli.cli.error_line import error
from boomerang_cli.cli.next_command import recommended_command
from boomerang_cli.cli.output import Output, as_plain
from boomerang_cli.cli.placement_lines import placement_text
from boomerang_cli.cli.sweep_table import sweep_table
from boomerang_cli.cli.sweep_text import sweep_text
from boomerang_cli.engine.errors import flag_of
from boomerang_cli.engine.evaluation.placement_plan import SweepPlan
from boomerang_cli.engine.evaluation.rows import RESULTS, SweepResult, best_order
from boomerang_cli.engine.pair.order import SEARCHED
from boomerang_cli.engine.processes.launch import is_first_process, launch, without_option
from boomerang_cli.engine.processes.machine import check_for_gpus, check_for_plan

EPILOG = panels.epilog(
    "Choose a size",
    "boomerang sweep --data valid.txt --order first,last,greedy --baseline",
    "boomerang sweep --dry-run",
    "boomerang sweep --layers 2 --data valid.txt --max-perplexity 12.5 --json",
)


def sweep(
    student: options.Student = None,
    teacher: options.Teacher = None,
    keep: options.Keep = None,
    layers: of.Layers = None,
    data: of.Data = None,
    sequences: of.Sequences = 512,
    sequence_length: of.SequenceLength = None,
    stride: of.Stride = None,
    order: of.Order = None,
    calibration: of.Calibration = None,
    calibration_sequences: of.CalibrationSequences = 64,
    beam: of.Beam = 1,
    yes: of.Yes = False,
    baseline: of.Baseline = False,
    speed: of.Speed = False,
    prompt: of.Prompt = None,
    max_perplexity: of.MaxPerplexity = None,
    max_kl: of.MaxKl = None,
    tasks: of.Tasks = None,
    limit: of.Limit = None,
    num_fewshot: of.NumFewshot = None,
    include_path: of.IncludePath = None,
    apply_chat_template: of.ApplyChatTemplate = False,
    system_instruction: of.SystemInstruction = None,
    gen_kwargs: of.GenKwargs = None,
    fewshot_as_multiturn: of.FewshotAsMultiturn = None,
    batch_size: of.BatchSize = "auto",
    dtype: of.DType = "auto",
    device: of.Device = "auto",
    gpus: of.Gpus = None,
    gpu_memory: of.GpuMemory = None,
    write: of.Write = False,
    output: options.OutputFolder = Path("sweep"),
    overwrite: of.Overwrite = False,
    dry_run: of.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Score every size, and find the best order to patch.

    A sweep that was stopped goes on where it was: type the same command again.
    """
    check_for_plan(dry_run, gpu_memory=gpu_memory)  # before there are processes that would say it, too
    check_for_gpus(device, gpus=gpus)
    if gpus is not None and not dry_run:
        from boomerang_cli.engine.evaluation.placement import processes_on

        if (processes := processes_on(gpus, student, teacher, keep=keep, dtype=dtype)) > 1:
            raise typer.Exit(launch(without_option(sys.argv[1:], "--gpus"), gpus, processes))
    from boomerang_cli.engine.processes.group import disconnect
    from boomerang_cli.engine.sweep import sweep

    out = Output(as_json=as_json, quiet=quiet or not is_first_process())
    with out.stages() as on_progress:
        result = sweep(
            layers=layers,
            order=order or ["auto"],
            data=data or (),
            calibration=calibration or (),
            sequences=sequences,
            calibration_sequences=calibration_sequences,
            sequence_length=sequence_length,
            stride=stride,
            tasks=[task.strip() for task in tasks.split(",")] if tasks else (),
            limit=limit,
            num_fewshot=num_fewshot,
            include_path=include_path,
            apply_chat_template=apply_chat_template,
            system_instruction=system_instruction,
            gen_kwargs=gen_kwargs,
            fewshot_as_multiturn=fewshot_as_multiturn,
            prompt=prompt or (),
            batch_size=_batch_size(batch_size),
            speed=speed,
            baseline=baseline,
            beam=beam,
            yes=yes,
            write=write,
            max_perplexity=max_perplexity,
            max_kl=max_kl,
            student=student,
            teacher=teacher,
            keep=keep,
            output=output,
            dtype=dtype,
            device=device,
            gpus=gpus,
            gpu_memory=gpu_memory,
            overwrite=overwrite,
            dry_run=dry_run,
            on_progress=on_progress,
            on_note=out.note,
        )
    disconnect()
    if not is_first_process():
        return
    if isinstance(result, SweepPlan):
        text, left_out = sweep_table(result.rows)
        out.result({**as_plain(result), "dry_run": True}, f"{text}\n\n{placement_text(result.placement)}")
    else:
        text, left_out = sweep_text(result.rows, result.recommended)
        out.result(result, text)
    out.misread(result.misreaders, "some of these models")
    if left_out:
        out.note(f"no room for {', '.join(reversed(left_out))}: a wider terminal or --json has them")
    if dry_run:
        _tell_what_is_planned(out, result)
    else:
        _tell_what_next(out, result, student, teacher, keep)
    _check_bounds(result)


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) == 0:
        raise typer.BadParameter(f"{text!r} is neither auto nor a number above 0", param_hint="--batch-size")
    return int(text)


def _tell_what_is_planned(out: Output, result: SweepResult) -> None:
    if searched := sorted({row.order for row in result.rows} & {*SEARCHED}):
        out.note(f"{', '.join(searched)}: found by a search; shown are sizes in the student's own order of blocks")
    chat = {name: value for name, value in result.asked.items() if name not in ("tasks", "prompts", "new_tokens")}
    flags = [flag_of(name) + ("" if value is True else f" {value!r}") for name, value in chat.items()]
    if tasks := result.asked.get("tasks"):
        out.note(" ".join([f"tasks for each: {', '.join(tasks)}", *flags]))
    for prompt in result.asked.get("prompts", ()):
        out.note(" ".join([f"prompt for each: {prompt!r}", *(flag for flag in flags if flag.startswith("--system"))]))


def _tell_what_next(
    out: Output, result: SweepResult, student: str | None, teacher: str | None, keep: options.Numbers | None
) -> None:
    best = best_order(result.rows)
    several = len({row.order for row in result.rows}) > 1
    out.note(
        f"{result.path}: {', '.join(name for name in RESULTS if (result.path / name).is_file())}"
        + (f"; order.json is {best}, the closest to the teacher" if several else "")
    )
    for warning in result.warnings:
        out.note(f"warning: {warning}")
    if result.recommended is None:
        return
    knee = result.recommended.knee
    out.note("* on the Pareto front: no other size with as few parameters is as close to the teacher")
    out.note(f"{f'take {knee.order} k={knee.layers}' if knee else 'no size stands out'}: {result.recommended.reason}")
    if found := recommended_command(result, student, teacher, keep):
        out.hint(*found)


def _check_bounds(result: SweepResult) -> None:
    """Exit with 1 if a size misses a bound, for scripts."""
    if result.misses:
        worst = ", ".join(
            f"{miss.order} k={miss.layers} has {miss.measure} {miss.value:.4g}" for miss in result.misses[:3]
        )
        more = f" and {len(result.misses) - 3} more" if len(result.misses) > 3 else ""
        bounds = {f"--max-{miss.measure} {miss.bound:g}" for miss in result.misses}
        error(f"{' and '.join(sorted(bounds))} missed: {worst}{more}")
        raise typer.Exit(1)
