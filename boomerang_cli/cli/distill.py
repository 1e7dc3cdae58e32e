"""``boomerang distill``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from boomerang_cli.cli import options
from boomerang_cli.cli.next_command import patch_command
from boomerang_cli.cli.output import Output
from boomerang_cli.cli.training_display import evaluation_course
from boomerang_cli.engine.distillation.recipe import DEFAULT_DATA
from boomerang_cli.engine.distillation.recipes import RECIPES, default_of, recipe_of
from boomerang_cli.engine.processes.launch import is_first_process, is_launched, launch, without_option
from boomerang_cli.engine.waiting import waiting


def _auto_or_number(text: str) -> str | int:
    if text == "auto":
        return text
    if not text.isdecimal():
        raise typer.BadParameter(f"{text!r} is neither auto nor a number of sequences")
    return int(text)


class Columns(tuple[str, ...]):
    """Names as ``_columns`` parses them; a plain list would make Typer take the option several times."""


def _columns(text: str) -> Columns:
    names = Columns(name.strip() for name in text.split(","))
    if not 1 <= len(names) <= 2 or not all(names):
        raise typer.BadParameter(f"{text!r} is neither PROMPT,RESPONSE nor one column of messages")
    return names


def _adapt(key: str) -> str:
    return f"adapt: {RECIPES['adapt'][key]}"


def _of_recipe(what: str, key: str) -> Any:
    """Return an option whose default is the recipe's."""
    return typer.Option(help=f"{what} [default: {default_of(key)}]")


def distill(
    student_init: Annotated[
        str,
        typer.Argument(
            help="The student to distil, or a size to heal: a folder or owner/name[@revision].", metavar="STUDENT_INIT"
        ),
    ] = "student-init",
    output: options.OutputFolder = Path("student"),
    teacher: options.Teacher = None,
    keep: options.Keep = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="paper: the published students', on text; adapt: for post-trained teachers, on text and then on "
            "conversations, with cosine 10; between: for the models in between, with --patched-share and --alignment. "
            "Other options override its values, --dry-run prints them.",
            metavar="paper|adapt|between",
        ),
    ] = "paper",
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Text: a Hub dataset (owner/name[:config[:split]][@revision]), a .txt, .jsonl, .json, .csv or "
            ".parquet file, also .gz, .bz2, .xz or .zst, or a folder of them; repeatable. "
            f"[default: {DEFAULT_DATA[0]}]",
            parser=options.text,
            metavar="TEXT",
        ),
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(help="Of rows of text, the column that holds it. [default: text]", metavar="COLUMN")
    ] = None,
    eval_data: Annotated[
        list[str] | None,
        typer.Option(
            help="Text for the held-out perplexity; repeatable. [default: a Hub dataset's first documents]",
            parser=options.text,
            metavar="TEXT",
        ),
    ] = None,
    steps: Annotated[int | None, _of_recipe("Steps of the optimiser on text.", "steps")] = None,
    batch_size: Annotated[int | None, _of_recipe("Sequences a step, over all GPUs.", "batch_size")] = None,
    sequence_length: Annotated[int | None, _of_recipe("Tokens a sequence.", "sequence_length")] = None,
    sft_data: Annotated[
        list[str] | None,
        typer.Option(
            help="Conversations, of which only the responses count: as --data, but for .txt, with rows of messages, "
            "prompt/completion, input/output or question/answer; repeatable. The teacher's chat template writes them, "
            f"one a sequence. [default: none; adapt: {RECIPES['adapt']['sft_data'][0]}]",
            parser=options.text,
            metavar="ROWS",
        ),
    ] = None,
    sft_columns: Annotated[
        Columns | None,
        typer.Option(
            parser=_columns,
            help="Columns of prompt and response, or the one of messages, where they have other names.",
            metavar="PROMPT,RESPONSE",
        ),
    ] = None,
    sft_steps: Annotated[
        int | None, _of_recipe("Steps on conversations, after those on text; one schedule runs over both.", "sft_steps")
    ] = None,
    sft_batch_size: Annotated[
        int | None,
        typer.Option(help=f"Conversations a step. [default: --batch-size; {_adapt('sft_batch_size')}]"),
    ] = None,
    sft_sequence_length: Annotated[
        int | None,
        typer.Option(
            help="Tokens of a conversation; longer ones are cut. "
            f"[default: --sequence-length; {_adapt('sft_sequence_length')}]"
        ),
    ] = None,
    sft_no_kl: Annotated[
        bool, typer.Option("--sft-no-kl", help="Leave out the KL divergence on conversations.")
    ] = False,
    learning_rate: Annotated[float | None, _of_recipe("Of AdamW, at its peak.", "learning_rate")] = None,
    warmup_ratio: Annotated[
        float | None,
        _of_recipe("Share of all steps over which it rises; then it falls as a cosine.", "warmup_ratio"),
    ] = None,
    weight_decay: Annotated[float | None, _of_recipe("Of AdamW.", "weight_decay")] = None,
    max_grad_norm: Annotated[float | None, _of_recipe("Gradients are clipped to this norm.", "max_grad_norm")] = None,
    kl_weight: Annotated[float | None, _of_recipe("Weight of the KL divergence to the teacher.", "kl_weight")] = None,
    cosine_weight: Annotated[
        float | None,
        _of_recipe("Weight of the loss on hidden states, divided by their number.", "cosine_weight"),
    ] = None,
    temperature: Annotated[float | None, _of_recipe("Of both models in the KL divergence.", "temperature")] = None,
    no_cross_entropy: Annotated[
        bool, typer.Option("--no-cross-entropy", help="Leave out the loss on the text itself.")
    ] = False,
    no_kl: Annotated[bool, typer.Option("--no-kl", help="Leave out the KL divergence.")] = False,
    no_cosine: Annotated[bool, typer.Option("--no-cosine", help="Leave out the loss on hidden states.")] = False,
    alignment: Annotated[
        Literal["cosine", "relative"] | None,
        _of_recipe(
            "What is compared of hidden states: their directions (cosine), or also their lengths, as the squared error "
            "relative to the teacher's (relative).",
            "alignment",
        ),
    ] = None,
    patched_share: Annotated[
        float | None,
        _of_recipe(
            "Share of the steps, from 0 to 1, that train the student as a part of a model in between: some blocks are "
            "the teacher's there, others in each step. Models in between come out better, the student itself worse.",
            "patched_share",
        ),
    ] = None,
    seed: Annotated[
        int | None, _of_recipe("Of the order of the text, and of what --patched-share draws.", "seed")
    ] = None,
    repeat: Annotated[bool, typer.Option("--repeat", help="Read a text that is too short again.")] = False,
    micro_batch_size: Annotated[
        str, typer.Option(parser=_auto_or_number, metavar="auto|N", help="Sequences that run at once on each GPU.")
    ] = "auto",
    gradient_checkpointing: Annotated[
        bool,
        typer.Option(
            "--gradient-checkpointing",
            help="Keep one state a layer, and compute the rest again: much less memory for long sequences, about a "
            "quarter more time. The same losses.",
        ),
    ] = False,
    optimizer: Annotated[
        str,
        typer.Option(
            help="adamw-8bit keeps 2 bytes a trained parameter, not 8; losses differ a little. In one process; "
            "needs boomerang-cli[low-memory], and compiles for a minute.",
            metavar="adamw|adamw-8bit",
        ),
    ] = "adamw",
    offload: Annotated[
        bool,
        typer.Option(
            "--offload",
            help="Keep the student's weights, gradients and optimiser in host memory: 16 bytes a parameter less on the "
            "GPUs, which wait for the bus and for the CPU's optimiser. With --gpus 2 or more.",
        ),
    ] = False,
    attention: Annotated[
        str | None,
        typer.Option(
            help="Of both models, as transformers names it: eager, sdpa, flex_attention, flash_attention_2 or _3. "
            "eager holds every score, quadratic in the length. [default: transformers' choice, sdpa]",
            metavar="NAME",
        ),
    ] = None,
    compile: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile each layer: fewer passes over memory, a minute or more before the first step, and a C++ "
            "compiler. Losses differ by rounding.",
        ),
    ] = False,
    gpus: Annotated[
        int | None,
        typer.Option(help="Train on so many GPUs of this machine, or plan for so many. [default: one, or torchrun's]"),
    ] = None,
    save_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints. [default: every ten minutes]")
    ] = None,
    eval_every: Annotated[
        int | None, typer.Option(help="Steps between held-out perplexities. [default: a tenth of all steps]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    report_to: Annotated[
        Literal["none", "tensorboard", "wandb", "trackio"], typer.Option(help="Tracker that gets the losses too.")
    ] = "none",
    dtype: options.DType = "auto",
    yes: Annotated[bool, typer.Option("--yes", help="Train even if that takes over half an hour on a CPU.")] = False,
    overwrite: options.Overwrite = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print what would be written, and what training needs: operations, memory, GPUs."
        ),
    ] = False,
    gpu_memory: Annotated[
        str | None, typer.Option(help="With --dry-run, memory of each GPU, as 80GB. [default: this machine's]")
    ] = None,
    tokens_per_second: Annotated[
        float | None, typer.Option(help="With --dry-run, how fast all GPUs train, for the hours.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="With --dry-run, measure that here, for 20 seconds.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a student towards its teacher, once.

    Every size in between works from then on. The defaults are the published students' recipe, 2.1 billion tokens.
    Ctrl-C saves, --resume goes on. A post-trained teacher takes two phases: text, then conversations.

    Example: boomerang distill --data corpus/ --steps 500 --batch-size 64 --sequence-length 1024

    Example: boomerang distill --recipe adapt --sft-data chats.jsonl
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
    recipe_of(recipe, **values)  # what cannot be trained is refused before libraries are loaded
    if not dry_run and not is_launched():
        from boomerang_cli.engine.distillation.training_folder import TrainingFolder

        TrainingFolder.of(output).check_free()  # a second run hears of it before libraries are loaded
    if gpus is not None and not dry_run:
        raise typer.Exit(launch(without_option(sys.argv[1:], "--gpus"), gpus))
    out = Output(as_json=as_json, quiet=quiet or not is_first_process())
    out.note(f"opening {student_init}, its teacher and the text")  # it takes seconds before there is more to say
    with waiting("loading libraries"):
        from boomerang_cli.engine.distill import DistillPlan, distill
    from boomerang_cli.engine.distillation.interrupts import TrainingInterrupted
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
                micro_batch_size=micro_batch_size,  # type: ignore[arg-type]
                gradient_checkpointing=gradient_checkpointing,
                optimizer=optimizer,
                offload=offload,
                attention=attention,
                compile=compile,
                save_every=save_every,
                eval_every=eval_every,
                resume=resume,
                report_to=report_to,
                dtype=dtype,
                yes=yes,
                overwrite=overwrite,
                dry_run=dry_run,
                gpus=gpus,
                gpu_memory=gpu_memory,
                tokens_per_second=tokens_per_second,
                measure=measure,
                on_progress=on_progress,
                on_note=out.note,
            )
    except TrainingInterrupted as interrupt:
        disconnect()
        raise KeyboardInterrupt(f"{interrupt}: {_how_to_go_on()}") from None
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
