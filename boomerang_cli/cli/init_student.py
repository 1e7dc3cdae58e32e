"""``boomerang init-student``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boomerang_cli.cli import complete, options, panels
from boomerang_cli.cli.forecast_lines import forecast_lines
from boomerang_cli.cli.next_command import distill_command, patch_command
from boomerang_cli.cli.output import Output
from boomerang_cli.engine.checkpoint.families import is_encoder
from boomerang_cli.engine.sizes import show_bytes, show_count

if TYPE_CHECKING:
    from boomerang_cli.engine.init_student import InitStudentResult


EPILOG = panels.epilog(
    "Distil your own student",
    "boomerang init-student EleutherAI/pythia-2.8b",
    "boomerang init-student EleutherAI/pythia-2.8b --every 3 --dry-run",
    "boomerang init-student Qwen/Qwen3-4B-Instruct-2507 --delta student",
)
_layers = partial(typer.Option, rich_help_panel=panels.LAYERS)
_delta = partial(typer.Option, rich_help_panel=panels.DELTA, parser=options.text, autocompletion=complete.models)
_output = partial(typer.Option, rich_help_panel=panels.OUTPUT)


def init_student(
    teacher: Annotated[
        str,
        typer.Argument(
            parser=options.text,
            help="Folder or owner/name[@revision] on the Hub.",
            metavar="TEACHER",
            autocompletion=complete.models,
        ),
    ],
    every: Annotated[
        int | None,
        _layers(
            help="Keep one of so many layers: 2 every second, 3 every third, ... Each kind its share. [default: 2]"
        ),
    ] = None,
    keep_first: Annotated[
        int | None,
        _layers(
            help="How many layers at the teacher's start are kept, all of them, before any is dropped. "
            "[default: the family's; 1, Llama 2]"
        ),
    ] = None,
    keep_last: Annotated[
        int | None,
        _layers(help="How many layers at its end are kept, all of them. [default: the family's; 2, Llama 1]"),
    ] = None,
    keep_period: Annotated[
        bool,
        _layers("--keep-period", help="Drop whole periods of layers, for programs that suppose one; see above."),
    ] = False,
    keep: Annotated[
        options.Numbers | None,
        _layers(parser=options.kept, metavar="0,2,4,...", help="The kept layers outright, layer 0 first."),
    ] = None,
    random_init: Annotated[bool, _layers("--random-init", help="Draw the weights at random.")] = False,
    delta: Annotated[
        str | None,
        _delta(
            help="A student of the model that TEACHER was post-trained from: add what distilling made of it.",
            metavar="STUDENT",
        ),
    ] = None,
    base: Annotated[
        str | None,
        _delta(
            help="The teacher of --delta's student. Without it: what that records, else the published one.",
            metavar="MODEL",
        ),
    ] = None,
    delta_scale: Annotated[
        float, typer.Option(help="How much of the delta is added.", metavar="NUMBER", rich_help_panel=panels.DELTA)
    ] = 1.0,
    compare: Annotated[
        str | None,
        _delta(
            help="A student distilled from TEACHER itself: forecast by it how --delta will do. Reads all weights.",
            metavar="STUDENT",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        _output(
            "--output",
            "-o",
            parser=options.home,
            help="Folder to write. [default: student-init; with --delta student]",
            metavar="FOLDER",
        ),
    ] = None,
    dtype: options.DType = "auto",
    max_shard_size: options.MaxShardSize = "5GB",
    download: options.Download = False,
    verify: Annotated[
        bool, _output("--verify", help="Read the student again and compare every byte with its sources.")
    ] = False,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a student from some layers of a teacher.

    The student copies every second layer, the embedding, the final norm and the head. Distil it next.

    Of a post-trained teacher (instruct, chat), --delta makes a finished student with no training: what distilling made
    of a student of its base model is added.

    Where layers differ in kind (sliding and full attention, dense and experts, ...), it copies one of every two, not
    always the first, so that each kind keeps the share that it has in the teacher. Some programs suppose that kinds
    follow the teacher's period, such as every 6th layer of full attention: with --keep-period they do, at every size.
    """
    from boomerang_cli.engine.init_student import init_student

    out = Output(as_json=as_json, quiet=quiet)
    with out.progress(_label(compare, dry_run=dry_run)) as on_progress:
        result = init_student(
            teacher,
            delta=delta,
            base=base,
            delta_scale=delta_scale,
            compare=compare,
            output=output,
            every=every,
            keep_first=keep_first,
            keep_last=keep_last,
            keep_period=keep_period,
            keep=keep,
            random_init=random_init,
            dtype=dtype,
            max_shard_size=max_shard_size,
            download=download,
            verify=verify,
            overwrite=overwrite,
            dry_run=dry_run,
            on_progress=on_progress,
            on_note=out.note,
        )
    for line in _described(result):
        out.note(line)
    out.misread(result.misread_sizes, "some sizes", "" if keep_period else "; --keep-period drops whole periods")
    out.verified(result.verified)
    if dry_run:
        out.plan(result, result.plan)
        return
    out.result(result, str(result.path))
    if result.patchable_blocks and result.plan.multimodal:
        if command := patch_command(result.path, result.teacher):
            out.hint(command, "train it as a model of its class, then patch it")
    elif result.weight_delta is None and result.patchable_blocks and not is_encoder(result.plan.config):
        out.hint(distill_command(result.path, result.teacher), "distil it")
    elif result.weight_delta and (command := patch_command(result.path, result.teacher)):
        out.hint(command, "make a size between it and its teacher")


def _label(compare: str | None, *, dry_run: bool) -> str:
    if dry_run:
        return "Comparing" if compare else "Reading headers"
    return "Comparing and writing" if compare else "Writing the student"


def _described(result: InitStudentResult) -> Iterator[str]:
    """Yield what the student has of its teacher, and which kinds of layers it lost."""
    kept = ",".join(map(str, result.copied_teacher_layers))
    patchable = "1 patchable block" if result.patchable_blocks == 1 else f"{result.patchable_blocks} patchable blocks"
    yield (
        f"{result.student_layers} of {result.teacher_layers} layers kept ({kept}), "
        f"{show_count(result.parameters)} of {show_count(result.teacher_parameters)} parameters, "
        f"{show_bytes(result.bytes)}, {patchable}"
    )
    if added := result.weight_delta:
        scale = "" if added.scale == 1 else f", times {added.scale:g}"
        yield f"weight delta added: {added.student} - {added.base}{scale}"
        alike = sum(copy.owner == "student" for copy in result.plan.copies)
        if alike and not any(copy.added for copy in result.plan.copies):
            yield f"teacher and base hold the same: the output is a copy of {added.student}"
        elif alike:
            yield f"{alike} of {len(result.plan.copies)} tensors are alike in teacher and base: they are the student's"
    if result.forecast:
        yield from forecast_lines(result.forecast)
    kinds = [f"{kind.student_layers} of {kind.teacher_layers} {kind.name}" for kind in result.layer_kinds]
    if kinds:
        yield f"kinds of layers kept: {', '.join(kinds)}"
    for kind in result.layer_kinds:
        if not kind.student_layers and not result.weight_delta:
            yield f"warning: none of the teacher's {kind.teacher_layers} {kind.name} layers is kept: give one in --keep"
