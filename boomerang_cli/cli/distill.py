"""``boomerang distill``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from boomerang_cli.cli import options
from boomerang_cli.cli.next_command import patch_command
from boomerang_cli.cli.output import Output
from boomerang_cli.engine.distillation.launch import is_first_process, is_launched, launch, without_option
from boomerang_cli.engine.distillation.recipe import DEFAULT_DATA, Recipe


def _auto_or_number(text: str) -> str | int:
    if text == "auto":
        return text
    if not text.isdecimal():
        raise typer.BadParameter(f"{text!r} is neither auto nor a number of sequences")
    return int(text)


def distill(
    student_init: Annotated[
        str, typer.Argument(help="The student to distil: a folder or owner/name[@revision].", metavar="STUDENT_INIT")
    ] = "student-init",
    output: options.OutputFolder = Path("student"),
    teacher: options.Teacher = None,
    keep: options.Keep = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Text: a Hub dataset (owner/name[:config][@revision]), a .txt, .jsonl, .json, .csv or .parquet file, "
            f"also .gz, .bz2, .xz or .zst, or a folder of them; repeatable. [default: {DEFAULT_DATA[0]}]",
            parser=options.text,
            metavar="TEXT",
        ),
    ] = None,
    eval_data: Annotated[
        list[str] | None,
        typer.Option(
            help="Text for the held-out perplexity; repeatable. [default: a Hub dataset's first documents]",
            parser=options.text,
            metavar="TEXT",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of the optimiser.")] = Recipe.steps,
    batch_size: Annotated[int, typer.Option(help="Sequences a step, over all GPUs.")] = Recipe.batch_size,
    sequence_length: Annotated[int, typer.Option(help="Tokens a sequence.")] = Recipe.sequence_length,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW, at its peak.")] = Recipe.learning_rate,
    warmup_ratio: Annotated[
        float, typer.Option(help="Share of the steps over which it rises; then it falls as a cosine.")
    ] = Recipe.warmup_ratio,
    weight_decay: Annotated[float, typer.Option(help="Of AdamW.")] = Recipe.weight_decay,
    max_grad_norm: Annotated[float, typer.Option(help="Gradients are clipped to this norm.")] = Recipe.max_grad_norm,
    kl_weight: Annotated[float, typer.Option(help="Weight of the KL divergence to the teacher.")] = Recipe.kl_weight,
    cosine_weight: Annotated[
        float, typer.Option(help="Weight of the cosine loss, divided by the number of aligned hidden states.")
    ] = Recipe.cosine_weight,
    temperature: Annotated[float, typer.Option(help="Of both models in the KL divergence.")] = Recipe.temperature,
    no_cross_entropy: Annotated[
        bool, typer.Option("--no-cross-entropy", help="Leave out the loss on the text itself.")
    ] = False,
    no_kl: Annotated[bool, typer.Option("--no-kl", help="Leave out the KL divergence.")] = False,
    no_cosine: Annotated[bool, typer.Option("--no-cosine", help="Leave out the cosine loss.")] = False,
    seed: Annotated[int, typer.Option(help="Of the order of the text.")] = Recipe.seed,
    repeat: Annotated[bool, typer.Option("--repeat", help="Read a text that is too short again.")] = False,
    micro_batch_size: Annotated[
        str, typer.Option(parser=_auto_or_number, metavar="auto|N", help="Sequences that run at once on each GPU.")
    ] = "auto",
    gpus: Annotated[
        int | None, typer.Option(help="Train on so many GPUs of this machine. [default: one, or torchrun's]")
    ] = None,
    save_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints. [default: every ten minutes]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    report_to: Annotated[
        Literal["none", "tensorboard", "wandb", "trackio"], typer.Option(help="Tracker that gets the losses too.")
    ] = "none",
    dtype: options.DType = "auto",
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a student towards its teacher, once.

    Every size in between works from then on. The defaults are the published students' recipe, 2.1 billion tokens.
    Ctrl-C saves, --resume goes on.

    Example: boomerang distill --data corpus/ --steps 500 --batch-size 64 --sequence-length 1024
    """
    if not dry_run and not is_launched():
        from boomerang_cli.engine.distillation.training_folder import TrainingFolder

        TrainingFolder.of(output).check_free()  # a second run hears of it before libraries are loaded
    if gpus is not None and not dry_run:
        raise typer.Exit(launch(without_option(sys.argv[1:], "--gpus"), gpus))
    out = Output(as_json=as_json, quiet=quiet or not is_first_process())
    out.note(f"opening {student_init}, its teacher and the text")  # it takes seconds before there is more to say
    from boomerang_cli.engine.distill import distill
    from boomerang_cli.engine.distillation.interrupts import TrainingInterrupted
    from boomerang_cli.engine.distillation.processes import disconnect

    try:
        with out.training() as on_progress:
            result = distill(
                student_init,
                output=output,
                teacher=teacher,
                keep=keep,
                data=data or DEFAULT_DATA,
                eval_data=eval_data or (),
                steps=steps,
                batch_size=batch_size,
                sequence_length=sequence_length,
                learning_rate=learning_rate,
                warmup_ratio=warmup_ratio,
                weight_decay=weight_decay,
                max_grad_norm=max_grad_norm,
                kl_weight=kl_weight,
                cosine_weight=cosine_weight,
                temperature=temperature,
                cross_entropy=not no_cross_entropy,
                kl=not no_kl,
                cosine=not no_cosine,
                seed=seed,
                repeat=repeat,
                micro_batch_size=micro_batch_size,  # type: ignore[arg-type]
                save_every=save_every,
                resume=resume,
                report_to=report_to,
                dtype=dtype,
                overwrite=overwrite,
                dry_run=dry_run,
                on_progress=on_progress,
                on_note=out.note,
            )
    except TrainingInterrupted as interrupt:
        disconnect()
        raise KeyboardInterrupt(f"{interrupt}: {_how_to_go_on()}") from None
    disconnect()
    if not is_first_process():
        return
    if dry_run:
        out.plan(result, result.plan)
        return
    out.result(result, str(result.path))
    if (following := patch_command(result.path, teacher)) is not None:
        out.hint(following, "make a model between it and its teacher")


def _how_to_go_on() -> str:
    from boomerang_cli.engine.publishing.provenance import command

    if is_launched() or not command().startswith("boomerang"):
        return "go on with the same command and --resume"
    again = command() if "--resume" in sys.argv else f"{command()} --resume"
    return f"go on with `{again}`"
