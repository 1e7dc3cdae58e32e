"""``boomerang patch``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boomerang_cli.cli import options
from boomerang_cli.cli.output import Output
from boomerang_cli.cli.push import note_removed
from boomerang_cli.engine.sizes import show_bytes, show_count

if TYPE_CHECKING:
    from boomerang_cli.engine.patch import PatchResult


def patch(
    layers: Annotated[int | None, typer.Option(help="Number of blocks to patch, 0 (student) to n (teacher).")] = None,
    depth: Annotated[int | None, typer.Option(help="Number of layers of the result.")] = None,
    params: Annotated[
        str | None, typer.Option(help="The largest model with at most so many parameters: 2B.", metavar="COUNT")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="The largest model of at most so many bytes: 4GB.", metavar="SIZE")
    ] = None,
    blocks: Annotated[
        options.Numbers | None,
        typer.Option(parser=options.numbers, metavar="3,7,...", help="The blocks to patch, one by one."),
    ] = None,
    order: Annotated[
        str,
        typer.Option(
            help="auto, first, last, or a sweep's order.json. auto: what the student records, else the family's.",
            metavar="ORDER",
        ),
    ] = "auto",
    student: options.Student = None,
    teacher: options.Teacher = None,
    keep: options.Keep = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=options.home,
            help="Folder to write. [default: patched-<depth>L]",
            metavar="FOLDER",
        ),
    ] = None,
    dtype: options.DType = "auto",
    max_shard_size: options.MaxShardSize = "5GB",
    download: options.Download = False,
    push: Annotated[
        str | None, typer.Option(help="Write to this repository on the Hub, not to the disk.", metavar="REPO_ID")
    ] = None,
    private: options.Private = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Compare layers with their origins, as transformers builds them, and every byte with its source.",
        ),
    ] = False,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make one size between a student and its teacher.

    No training is needed: blocks of teacher layers go back into the student. The result opens with transformers like
    any other model.

    Example: boomerang patch --layers 2
    """
    from boomerang_cli.engine.patch import patch

    out = Output(as_json=as_json, quiet=quiet)
    with out.progress("Writing the model") as on_progress:
        result = patch(
            layers=layers,
            depth=depth,
            params=params,
            size=size,
            blocks=blocks,
            order=order,
            student=student,
            teacher=teacher,
            keep=keep,
            output=output,
            dtype=dtype,
            max_shard_size=max_shard_size,
            download=download,
            push=push,
            private=private,
            verify=verify,
            overwrite=overwrite,
            dry_run=dry_run,
            on_progress=on_progress,
        )
    out.note(_described(result))
    out.misread(result.misreaders)
    out.verified(result.verified)
    if result.pushed:
        note_removed(out, result.pushed)
    if dry_run:
        out.plan(result, result.plan)
    else:
        out.result(result, result.pushed.url if result.pushed else str(result.path))


def _described(result: PatchResult) -> str:
    chosen = ",".join(map(str, result.patched_blocks)) or "none"
    order = f" (order {result.order})" if result.order else ""
    tied = "tied" if result.tied_embeddings else "untied"
    return (
        f"{result.depth} layers, blocks patched: {chosen}{order}, {show_count(result.parameters)} parameters, "
        f"{show_bytes(result.bytes)}, {result.dtype}, {tied} embeddings"
    )
