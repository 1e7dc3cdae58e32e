"""``boomerang distill``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from signal import SIGTERM
from typing import Any

import typer

from boomerang_cli.cli import distill_options as of
from boomerang_cli.cli import options, panels
from boomerang_cli.cli.next_command import patch_command
from boomerang_cli.cli.output import Output
from boomerang_cli.cli.signals import Terminated
from boomerang_cli.cli.training_display import evaluation_course
from boomerang_cli.engine.distillation.options import check_options
from boomerang_cli.engine.distillation.recipes import recipe_of
from boomerang_cli.engine.processes.launch import is_first_process, is_launched, launch, without_option
from boomerang_cli.engine.waiting import waiting

EPILOG = panels.epilog(
    "Distil your own student",
    "boomerang distill --data corpus/ --batch-size 64 --sequence-length 1024",
    "boomerang distill --recipe adapt --sft-data chats.jsonl",
    "boomerang distill --dry-run --gpus 8 --gpu-memory 80GB",
)


def distill(
    student_init: of.StudentInit = "student-init",
    output: of.OutputFolder = None,
    teacher: options.Teacher = None,
    keep: options.Keep = None,
    data: of.Data = None,
    text_column: of.TextColumn = None,
    eval_data: of.EvalData = None,
    eval_every: of.EvalEvery = None,
    repeat: of.Repeat = False,
    seed: of.Seed = None,
    sft_data: of.SftData = None,
    sft_columns: of.SftColumns = None,
    sft_steps: of.SftSteps = None,
    sft_batch_size: of.SftBatchSize = None,
    sft_sequence_length: of.SftSequenceLength = None,
    sft_no_kl: of.SftNoKl = False,
    recipe: of.Recipe = "paper",
    steps: of.Steps = None,
    batch_size: of.BatchSize = None,
    sequence_length: of.SequenceLength = None,
    learning_rate: of.LearningRate = None,
    warmup_ratio: of.WarmupRatio = None,
    weight_decay: of.WeightDecay = None,
    max_grad_norm: of.MaxGradNorm = None,
    patched_share: of.PatchedShare = None,
    kl_weight: of.KlWeight = None,
    cosine_weight: of.CosineWeight = None,
    temperature: of.Temperature = None,
    no_cross_entropy: of.NoCrossEntropy = False,
    no_kl: of.NoKl = False,
    no_cosine: of.NoCosine = False,
    alignment: of.Alignment = None,
    gpus: of.Gpus = None,
    micro_batch_size: of.MicroBatchSize = "auto",
    gradient_checkpointing: of.GradientCheckpointing = False,
    optimizer: of.Optimizer = "adamw",
    offload: of.Offload = False,
    attention: of.Attention = None,
    compile: of.Compile = False,
    save_every: of.SaveEvery = None,
    resume: of.Resume = False,
    report_to: of.ReportTo = "none",
    dtype: options.DType = "auto",
    yes: of.Yes = False,
    overwrite: options.Overwrite = False,
    dry_run: of.DryRun = False,
    gpu_memory: of.GpuMemory = None,
    tokens_per_second: of.TokensPerSecond = None,
    measure: of.Measure = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a student towards its teacher, once.

    Every size in between works from then on. The defaults are the published students' recipe, 2.1 billion tokens.
    Ctrl-C saves, --resume goes on. A post-trained teacher takes two phases: text, then conversations.
    """
    values: dict[str, Any] = {
        "data": data or None,
        "text_column": text_column,
        "eval_data": eval_data or (),
        "steps": steps,
        "batch_size": batch_size,
        "sequence_length": sequence_length,
        "sft_data": sft_data or None,
        "sft_columns": sft_columns,
        "sft_steps": sft_steps,
        "sft_batch_size": sft_batch_size,
        "sft_sequence_length": sft_sequence_length,
        "sft_kl": False if sft_no_kl else None,
        "learning_rate": learning_rate,
        "warmup_ratio": warmup_ratio,
        "weight_decay": weight_decay,
        "max_grad_norm": max_grad_norm,
        "kl_weight": kl_weight,
        "cosine_weight": cosine_weight,
        "temperature": temperature,
        "cross_entropy": not no_cross_entropy,
        "kl": not no_kl,
        "cosine": not no_cosine,
        "alignment": alignment,
        "patched_share": patched_share,
        "seed": seed,
        "repeat": repeat,
    }
    run: dict[str, Any] = {
        "micro_batch_size": micro_batch_size,
        "save_every": save_every,
        "eval_every": eval_every,
        "dry_run": dry_run,
        "gpus": gpus,
        "gpu_memory": gpu_memory,
        "tokens_per_second": tokens_per_second,
        "measure": measure,
    }
    recipe_of(recipe, **values)  # what is wrong by itself is refused before libraries are loaded
    check_options(**run)
    known = output or (Path("student") if student_init == "student-init" else None)
    if known and not dry_run and not is_launched():
        from boomerang_cli.engine.distillation.training_folder import TrainingFolder

        TrainingFolder.of(known).check_free()  # a second run hears of it before libraries are loaded
    if gpus is not None and not dry_run:
        raise typer.Exit(launch(without_option(sys.argv[1:], "--gpus"), gpus))
    out = Output(as_json=as_json, quiet=quiet or not is_first_process())
    out.note(f"opening {student_init}, its teacher and the text")  # it takes seconds before there is more to say
    with waiting("loading libraries", further_seconds=2.0 if measure else None):
        from boomerang_cli.engine.distill import distill
    from boomerang_cli.engine.distillation.interrupts import TrainingInterrupted
    from boomerang_cli.engine.distillation.result import DistillPlan
    from boomerang_cli.engine.processes.group import disconnect

    try:
        with out.training() as on_progress:
            result = distill(
                student_init,
                output=output,
                teacher=teacher,
                keep=keep,
                recipe=recipe,
                **values,
                **run,
                gradient_checkpointing=gradient_checkpointing,
                optimizer=optimizer,
                offload=offload,
                attention=attention,
                compile=compile,
                resume=resume,
                report_to=report_to,
                dtype=dtype,
                yes=yes,
                overwrite=overwrite,
                on_progress=on_progress,
                on_note=out.note,
            )
    except TrainingInterrupted as interrupt:
        disconnect()
        told = f"{interrupt}: {_how_to_go_on()}"
        if interrupt.number == SIGTERM and not is_launched():  # else all processes would say it
            raise Terminated(SIGTERM, told) from None
        raise KeyboardInterrupt(told) from None
    disconnect()
    if not is_first_process():
        return
    if isinstance(result, DistillPlan):
        from boomerang_cli.cli.needs_lines import needs_text

        out.note(f"recipe {recipe}: {', '.join(f'{key} {value}' for key, value in _shown(result.recipe))}")
        out.plan(result, result.plan, needs_text(result.needs))
        return
    if course := evaluation_course(result):
        out.note(course)
    out.result(result, str(result.path))
    if (following := patch_command(result.path, teacher)) is not None:
        out.hint(following, "make a model between it and its teacher")


def _shown(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in recipe.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        yield key.replace("_", " "), text or "none"


def _how_to_go_on() -> str:
    from boomerang_cli.engine.publishing.provenance import command

    if is_launched() or not command().startswith("boomerang"):
        return "go on with the same command and --resume"
    again = command() if "--resume" in sys.argv else f"{command()} --resume"
    return f"go on with `{again}`"
