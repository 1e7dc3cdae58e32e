"""``boomerang sweep``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from boomerang_cli.cli import options
from boomerang_cli.cli.error_line import error
from boomerang_cli.cli.next_command import recommended_command
from boomerang_cli.cli.output import Output, as_plain
from boomerang_cli.cli.sweep_table import sweep_table
from boomerang_cli.cli.sweep_text import sweep_text
from boomerang_cli.engine.evaluation.asked import NEW_TOKENS
from boomerang_cli.engine.evaluation.rows import RESULTS, SweepResult, best_order
from boomerang_cli.engine.pair.order import SEARCHED
from boomerang_cli.engine.processes.launch import is_first_process, launch, without_option


def sweep(
    layers: Annotated[
        options.Numbers | None,
        typer.Option(parser=options.numbers, metavar="1,2,5-8", help="Which sizes, by k. [default: all]"),
    ] = None,
    order: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORDER",
            help="auto, first, last, greedy, exact (best set of each size), nested (best sequence), or an order file; "
            "several, as first,last or repeated, are compared. [default: auto]",
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            parser=options.text,
            metavar="TEXT",
            help="Text to score on, as distill reads it: a file, a folder of them, or a Hub dataset; repeatable. "
            "[default: what the student's distillation was evaluated on]",
        ),
    ] = None,
    sequences: Annotated[int, typer.Option(help="Windows of text to score on, at most.")] = 512,
    sequence_length: Annotated[
        int | None, typer.Option(help="Tokens in a window. [default: the teacher's, 2048 at most]")
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            help="Tokens between the beginnings of two windows; fewer give each token more context. "
            "[default: the window's length]"
        ),
    ] = None,
    calibration: Annotated[
        list[str] | None,
        typer.Option(
            parser=options.text,
            metavar="TEXT",
            help="Text to search orders on. [default: the beginning of --data]",
        ),
    ] = None,
    calibration_sequences: Annotated[int, typer.Option(help="Windows to search orders on, at most.")] = 64,
    beam: Annotated[int, typer.Option(help="Sets of each size that greedy goes on from.")] = 1,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Search exact however long it takes.")] = False,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Score the never-distilled student's sizes, too (naive pruning).")
    ] = False,
    speed: Annotated[
        bool, typer.Option("--speed", help="Measure tokens read and written a second, and GPU memory.")
    ] = False,
    tasks: Annotated[
        str | None, typer.Option(metavar="TASK,...", help="Tasks of lm-eval (pip install 'boomerang-cli[eval]').")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Examples of each task. [default: all]")] = None,
    num_fewshot: Annotated[int | None, typer.Option(help="Examples in the context. [default: the task's]")] = None,
    include_path: Annotated[
        Path | None,
        typer.Option(parser=options.home, metavar="FOLDER", help="Definitions of your own tasks for lm-eval."),
    ] = None,
    apply_chat_template: Annotated[
        bool,
        typer.Option("--apply-chat-template", help="Put tasks as chats, by the teacher's template, as lm-eval does."),
    ] = False,
    system_instruction: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What a chat begins with, in tasks and prompts.")
    ] = None,
    gen_kwargs: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=VALUE,...",
            help="How tasks generate, as lm-eval takes it: temperature=0.7,top_p=0.8,do_sample=True, or a JSON object.",
        ),
    ] = None,
    fewshot_as_multiturn: Annotated[
        bool | None,
        typer.Option(
            "--fewshot-as-multiturn/--no-fewshot-as-multiturn",
            help="Examples in the context are turns of the chat. [default: with --apply-chat-template]",
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help=f"Have every size continue this, greedily, at most {NEW_TOKENS} tokens, as a chat where the teacher "
            "has a template; repeatable. See samples.md.",
        ),
    ] = None,
    batch_size: Annotated[
        str, typer.Option(metavar="auto|N", help="Windows, and examples of tasks, at once.")
    ] = "auto",
    max_perplexity: Annotated[float | None, typer.Option(help="Exit with 1 if a size has a higher perplexity.")] = None,
    max_kl: Annotated[float | None, typer.Option(help="Exit with 1 if a size is farther from the teacher.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Write each model to OUTPUT/<depth>L.")] = False,
    student: options.Student = None,
    teacher: options.Teacher = None,
    keep: options.Keep = None,
    output: options.OutputFolder = Path("sweep"),
    dtype: Annotated[
        options.DTypeName, typer.Option(help="Of the computation. auto: bfloat16 on a GPU, float32 on a CPU.")
    ] = "auto",
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.")] = "auto",
    gpus: Annotated[
        int | None,
        typer.Option(
            help="GPUs of this machine to share the work: a process for each that holds both models, else their layers "
            "spread over as many as it takes. [default: 1]"
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier sweep.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the sizes to choose from, and score nothing.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Score every size, and find the best order to patch.

    A sweep that was stopped goes on where it was: type the same command again.

    Example: boomerang sweep --data valid.txt --order first,last,exact --baseline
    """
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
            overwrite=overwrite,
            dry_run=dry_run,
            on_progress=on_progress,
            on_note=out.note,
        )
    disconnect()
    if not is_first_process():
        return
    text, left_out = sweep_table(result.rows) if dry_run else sweep_text(result.rows, result.recommended)
    out.result({**as_plain(result), "dry_run": True} if dry_run else result, text)
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
    flags = [f"--{name.replace('_', '-')}" + ("" if value is True else f" {value!r}") for name, value in chat.items()]
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
