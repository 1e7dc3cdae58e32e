"""``boomerang init-student``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boomerang_cli.cli import options
from boomerang_cli.cli.next_command import distill_command, patch_command
from boomerang_cli.cli.output import Output
from boomerang_cli.engine.sizes import show_bytes, show_count

if TYPE_CHECKING:
    from boomerang_cli.engine.init_student import InitStudentResult


def init_student(
    teacher: Annotated[str, typer.Argument(help="Folder or owner/name[@revision] on the Hub.", metavar="TEACHER")],
    output: options.OutputFolder = Path("student-init"),
    every: Annotated[int, typer.Option(help="Keep every second, third, ... layer; each kind its share.")] = 2,
    keep_first: Annotated[
        int | None, typer.Option(help="Layers kept at the start. [default: the family's; 1, Llama 2]")
    ] = None,
    keep_last: Annotated[
        int | None, typer.Option(help="Layers kept at the end. [default: the family's; 2, Llama 1]")
    ] = None,
    keep: Annotated[
        options.Numbers | None,
        typer.Option(parser=options.numbers, metavar="0,2,4,...", help="The kept layers outright, layer 0 first."),
    ] = None,
    random_init: Annotated[bool, typer.Option("--random-init", help="Draw the weights at random.")] = False,
    dtype: options.DType = "auto",
    max_shard_size: options.MaxShardSize = "5GB",
    download: options.Download = False,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a student from some layers of a teacher.

    The student copies every second layer, the embedding, the final norm and the head. Distil it next.

    Where layers differ in kind (sliding and full attention, dense and experts, ...), it copies one of every two, not
    always the first, so that each kind keeps the share that it has in the teacher.

    Example: boomerang init-student EleutherAI/pythia-2.8b
    """
    from boomerang_cli.engine.init_student import init_student

    out = Output(as_json=as_json, quiet=quiet)
    with out.progress("Writing the student") as on_progress:
        result = init_student(
            teacher,
            output=output,
            every=every,
            keep_first=keep_first,
            keep_last=keep_last,
            keep=keep,
            random_init=random_init,
            dtype=dtype,
            max_shard_size=max_shard_size,
            download=download,
            overwrite=overwrite,
            dry_run=dry_run,
            on_progress=on_progress,
        )
    for line in _described(result):
        out.note(line)
    if dry_run:
        out.plan(result, result.plan)
        return
    out.result(result, str(result.path))
    if result.patchable_blocks and not result.plan.multimodal:
        out.hint(distill_command(result.path, result.teacher), "distil it")
    elif command := patch_command(result.path, result.teacher):
        out.hint(command, "train it as a model of its class, then patch it")


def _described(result: InitStudentResult) -> Iterator[str]:
    """Yield what the student has of its teacher, and which kinds of layers it lost."""
    kept = ",".join(map(str, result.copied_teacher_layers))
    yield (
        f"{result.student_layers} of {result.teacher_layers} layers kept ({kept}), "
        f"{show_count(result.parameters)} of {show_count(result.teacher_parameters)} parameters, "
        f"{show_bytes(result.bytes)}, {result.patchable_blocks} patchable blocks"
    )
    kinds = [f"{kind.student_layers} of {kind.teacher_layers} {kind.name}" for kind in result.layer_kinds]
    if kinds:
        yield f"kinds of layers kept: {', '.join(kinds)}"
    for kind in result.layer_kinds:
        if not kind.student_layers:
            yield f"warning: none of the teacher's {kind.teacher_layers} {kind.name} layers is kept: give one in --keep"
