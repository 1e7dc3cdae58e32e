"""``boomerang push``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boomerang_cli.cli import complete, options, panels
from boomerang_cli.cli.output import Output
from boomerang_cli.cli.table import table
from boomerang_cli.engine.sizes import show_bytes

if TYPE_CHECKING:
    from boomerang_cli.engine.push import PushResult, SweepPushResult

EPILOG = panels.epilog(
    "The Hub, both ways",
    "boomerang push patched-22L me/pythia-2.0B",
    "boomerang push patched-22L me/pythia-2.0B --create-pr --dry-run",
    "boomerang push sweep me/pythia --collection",
)
_hub = partial(typer.Option, rich_help_panel=panels.HUB)


def push(
    path: Annotated[
        Path,
        typer.Argument(
            parser=options.home,
            help="A model folder, or a sweep's with models in it.",
            metavar="PATH",
            autocompletion=complete.models,
        ),
    ],
    repo_id: Annotated[
        str, typer.Argument(help="owner/name on the Hub; a sweep's models get -<depth>L behind it.", metavar="REPO_ID")
    ],
    private: options.Private = False,
    revision: Annotated[str | None, _hub(help="Branch to write to. [default: main]", metavar="BRANCH")] = None,
    create_pr: Annotated[bool, _hub("--create-pr", help="Open a pull request instead.")] = False,
    message: Annotated[str | None, _hub("--message", "-m", help="Message of the commit.", metavar="TEXT")] = None,
    collection: Annotated[bool, _hub("--collection", help="Gather a sweep's models in a collection.")] = False,
    results: Annotated[
        Path | None,
        _hub(
            parser=options.home,
            help="Folder of a sweep of this student; its scores go along. [default: ./sweep if it is of these files]",
            metavar="FOLDER",
        ),
    ] = None,
    teacher_id: Annotated[
        str | None, _hub(help="The teacher on the Hub, if it is a folder of this disk.", metavar="OWNER/NAME")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Send a model, or a sweep's models, to the Hub.

    The folder is checked before a byte is sent, and gets a model card unless it has its own.
    """
    from boomerang_cli.engine.push import push

    out = Output(as_json=as_json, quiet=quiet)
    result = push(
        path,
        repo_id,
        private=private,
        revision=revision,
        create_pr=create_pr,
        message=message,
        collection=collection,
        results=results,
        teacher_id=teacher_id,
        dry_run=dry_run,
        show_progress=not quiet and sys.stderr.isatty(),
        on_model=lambda model: out.note(
            f"sending {len(model.files)} files, {show_bytes(model.bytes)}, to {model.repo}"
        ),
    )
    note_pushed(out, result)
    for model in result.models:
        out.misread(model.misreaders, model.repo)
    rows = [[f"{model.repo}/{each.file}", show_bytes(each.bytes)] for model in result.models for each in model.files]
    out.result(result, table(["file", "size"], rows) if dry_run else "\n".join(result.urls))


def note_pushed(out: Output, result: PushResult | SweepPushResult) -> None:
    """Tell what did not go, or would not go, to the Hub, and what others will miss."""
    for model in result.models:
        if model.removed:
            out.note(f"not sent to {model.repo}, as paths of this disk or secrets: {'; '.join(model.removed)}")
        if not model.changed:
            out.note(f"nothing to upload: {model.repo} holds all of these files already")
    for note in dict.fromkeys(note for model in result.models for note in model.notes):
        out.note(note)
