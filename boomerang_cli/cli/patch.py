"""``boomerang patch``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boomerang_cli.cli import complete, options, panels
from boomerang_cli.cli.output import Output
from boomerang_cli.engine.sizes import show_bytes, show_count

if TYPE_CHECKING:
    from boomerang_cli.engine.output.memory import Memory
    from boomerang_cli.engine.patch import PatchResult


EPILOG = panels.epilog(
    "Choose a size",
    "boomerang patch --layers 2",
    "boomerang patch --memory 8GB --context 16384 --max-kl 0.1",
    "boomerang patch --student Harvard-DCML/boomerang-pythia-1.6B --params 2B",
)
_size = partial(typer.Option, rich_help_panel=panels.SIZE)
_bounds = partial(typer.Option, rich_help_panel=panels.BOUNDS)
_order = partial(typer.Option, rich_help_panel=panels.ORDER)
_output = partial(typer.Option, rich_help_panel=panels.OUTPUT)


def patch(
    layers: Annotated[
        int | None,
        _size(
            help="k: how many blocks are patched, from 0 (student) to n (teacher); the number of layers is --depth.",
            autocompletion=complete.layers,
        ),
    ] = None,
    depth: Annotated[int | None, _size(help="Number of layers of the result.", autocompletion=complete.depths)] = None,
    blocks: Annotated[
        options.Numbers | None,
        _size(parser=options.numbers, metavar="3,7,...", help="The blocks to patch, one by one."),
    ] = None,
    params: Annotated[
        str | None, _bounds(help="The best model with at most so many parameters: 2B.", metavar="COUNT")
    ] = None,
    size: Annotated[str | None, _bounds(help="The best model of at most so many bytes: 4GB.", metavar="SIZE")] = None,
    memory: Annotated[
        str | None,
        _bounds(help="The best model that runs in so much memory: weights, cache, a tenth in reserve.", metavar="SIZE"),
    ] = None,
    context: Annotated[
        int | None, _bounds(help="Tokens of each sequence, for --memory. [default: 4096 at most]")
    ] = None,
    batch: Annotated[int | None, _bounds(help="Sequences at once, for --memory. [default: 1]")] = None,
    weights_bits: Annotated[
        float | None,
        _bounds(help="Bits of a quantised parameter, for --memory: 4.85. [default: as stored]", metavar="BITS"),
    ] = None,
    max_kl: Annotated[
        float | None,
        _bounds(help="The smallest model at most so far from the teacher: KL divergence in nats a token, as 0.1."),
    ] = None,
    max_perplexity: Annotated[
        float | None, _bounds(help="The smallest model with at most such a perplexity: 12.5.")
    ] = None,
    min_top1: Annotated[
        float | None,
        _bounds(help="The smallest model whose most likely token is the teacher's in so large a share: 0.9."),
    ] = None,
    min_speed: Annotated[
        float | None,
        _bounds(help="The best model that writes at least so many tokens a second, as sweep --speed measured."),
    ] = None,
    order: Annotated[
        str | None,
        _order(
            help="auto (what the student records, else the family's), first, last, one that the sweep searched, or an "
            "order file. [default: the best of ./sweep, else auto]",
            metavar="ORDER",
            autocompletion=complete.orders_to_patch,
        ),
    ] = None,
    results: Annotated[
        Path | None,
        _order(
            parser=options.home,
            help="Folder of a sweep. [default: ./sweep if it is of this pair, else what the student came with]",
            metavar="FOLDER",
        ),
    ] = None,
    student: options.Student = None,
    teacher: options.Teacher = None,
    keep: options.Keep = None,
    output: Annotated[
        Path | None,
        _output(
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
        str | None,
        typer.Option(
            help="Write to this repository on the Hub, not to the disk.", metavar="REPO_ID", rich_help_panel=panels.HUB
        ),
    ] = None,
    private: options.Private = False,
    verify: Annotated[
        bool,
        _output(
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

    Block i is the run of teacher layers that student layer i stands for: from the one that it was copied from to the
    one before the next copied one. Blocks of two or more layers can be patched, n of them: the teacher's layers take
    the place of the student's one. k is how many blocks are patched, from 0, the student, to n, the teacher. The order
    says which: at size k its first k blocks, from the end of the model (last), from its start (first), or as a sweep
    found them.

    Bounds choose by what a model costs and scores; several together give the best that keeps all of them.
    --dry-run prints all sizes to choose from.
    """
    from boomerang_cli.engine.patch import patch

    out = Output(as_json=as_json, quiet=quiet)
    with out.progress("Reading headers" if dry_run else "Writing the model") as on_progress:
        result = patch(
            layers=layers,
            depth=depth,
            params=params,
            size=size,
            memory=memory,
            context=context,
            batch=batch,
            weights_bits=weights_bits,
            max_kl=max_kl,
            max_perplexity=max_perplexity,
            min_top1=min_top1,
            min_speed=min_speed,
            blocks=blocks,
            order=order,
            results=results,
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
            on_note=out.note,
        )
    out.note(_described(result))
    if result.memory:
        out.note(_memory(result.memory))
    out.misread(result.misreaders)
    out.verified(result.verified)
    if result.pushed:
        from boomerang_cli.cli.push import note_pushed

        note_pushed(out, result.pushed)
    if dry_run:
        from boomerang_cli.cli.menu_table import menu_table

        out.plan(result, result.plan, menu_table(result.menu) + "\n")
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


def _memory(memory: Memory) -> str:
    sequences = "" if memory.batch == 1 else f"{memory.batch} sequences of "
    return (
        f"memory: {show_bytes(memory.weights_bytes)} of weights + {show_bytes(memory.cache_bytes)} of cache "
        f"({sequences}{memory.context} tokens) + {show_bytes(memory.reserve_bytes)} in reserve = "
        f"{show_bytes(memory.needed_bytes)}"
    )
