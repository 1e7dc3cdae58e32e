"""What a command says: its result on stdout, which nothing else writes to, and notes and hints on stderr."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boomerang_cli.cli.error_line import harmless
from boomerang_cli.cli.progress import byte_progress, download_lines, stage_progress
from boomerang_cli.cli.table import table
from boomerang_cli.engine import waiting
from boomerang_cli.engine.checkpoint import checkpoint, family_of, readers
from boomerang_cli.engine.checkpoint import hub_reading as hub
from boomerang_cli.engine.output.plan import Plan
from boomerang_cli.engine.sizes import show_bytes

if TYPE_CHECKING:
    from boomerang_cli.engine.distillation.progress import ProgressCallback
    from boomerang_cli.engine.output.verify import Verification


class Output:
    """How one command speaks.

    Args:
        as_json: one JSON object on stdout and nothing else there.
        quiet: no progress, notes or hints; errors alone on stderr.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self._as_json, self._quiet = as_json, quiet
        hub.on_download = None if quiet else download_lines()
        waiting.on_wait = None if quiet else self.note
        checkpoint.on_set_aside = None if quiet else _set_aside_lines()
        family_of.on_derived = None if quiet else _derived_lines()

    def result(self, result: Any, text: str) -> None:
        """Print what the command made: ``text``, or the fields of ``result`` (a dataclass or a mapping) as JSON."""
        print(json.dumps(as_plain(result)) if self._as_json else text, flush=True)  # ASCII: JSON in any encoding

    def plan(self, result: Any, plan: Plan, before: str = "") -> None:
        """Print what a command would write, and from where; ``before`` is text that stands above it."""
        files: list[tuple[str, int | None, int, int]] = [
            *((shard.file, shard.size_bytes, len(shard.copies), len(shard.runs)) for shard in plan.shards),
            *((file.name, file.size_bytes, 0, 1) for file in plan.companions),
            *((name, None, 0, 0) for name in plan.generated),
        ]
        keys = ("file", "bytes", "tensors", "copies")
        content = {
            **as_plain(result),
            "dry_run": True,
            "fetch_bytes": dict(plan.fetch_bytes),
            "files": [dict(zip(keys, each, strict=True)) for each in files],
        }
        rows = [
            [file, "" if size is None else show_bytes(size), str(tensors or ""), str(copies or "")]
            for file, size, tensors, copies in files
        ]
        shown = table(["file", "size", "tensors", "copies"], rows)
        self.result(content, f"{before}\n{shown}" if before else shown)
        for repo_id, size in plan.fetch_bytes.items():
            self.note(f"{show_bytes(size)} would be fetched from {repo_id}")

    def note(self, text: str) -> None:
        """Say on stderr what was done or decided."""
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)

    def hint(self, command: str, why: str) -> None:
        """Say on stderr what to type next."""
        self.note(f"hint: {why}: `{command}`")

    def verified(self, verified: Verification | None) -> None:
        """Say on stderr what ``--verify`` compared."""
        if verified:
            left_out = f"; not compared: {show_bytes(verified.unread_bytes)} that the Hub would have to send again"
            self.note(
                f"verified: read again, all {verified.tensors} tensors have the planned names, dtypes and shapes, "
                f"config.json is as planned, and {show_bytes(verified.bytes)} of values are the same as their sources'"
                + (left_out if verified.unread_bytes else "")
            )

    def misread(self, known: Mapping[str, tuple[str, ...]], which: str = "this model", way_out: str = "") -> None:
        """Warn on stderr that programs with code of their own suppose what is not so, if any does."""
        if known:
            told = readers.told(known)
            self.note(
                f"warning: {told}: not so in {which}, which they refuse or misread, and transformers does not{way_out}"
            )

    def progress(self, label: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """Give a callback for bytes done and bytes in all: a bar on a terminal, else a line now and then."""
        return nullcontext(lambda done, total: None) if self._quiet else byte_progress(label)

    @contextmanager
    def training(self) -> Iterator[ProgressCallback | None]:
        """Yield a callback for where training stands: a live display on a terminal, else a line now and then."""
        from boomerang_cli.cli.training_display import training_progress

        with (
            redirect_stdout(sys.stderr),  # trackers print on stdout, which is the result's
            nullcontext() if self._quiet else training_progress() as update,
        ):
            yield update

    @contextmanager
    def stages(self) -> Iterator[Callable[[str, int, int], None]]:
        """Yield a callback for what is being done, how much of it is done, and how much there is."""
        with (
            redirect_stdout(sys.stderr),  # evaluation tasks may print
            nullcontext(lambda stage, done, total: None) if self._quiet else stage_progress() as update,
        ):
            yield update


def as_plain(value: Any) -> Any:
    """Turn results into what JSON can hold; plans, which are shown apart, are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return as_plain({name: each for name, each in fields.items() if not isinstance(each, Plan)})
    if isinstance(value, Mapping):
        return {str(key): as_plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _derived_lines() -> family_of.DerivedCallback:
    """Return a callback that tells of a type that is in no table, once a type."""
    told: set[str] = set()

    def tell(model: str, model_type: str) -> None:
        if model_type not in told:
            told.add(model_type)
            line = f"{model}: {model_type} is derived, not in the table: compare a result with the model before use"
            print(harmless(line), file=sys.stderr, flush=True)

    return tell


def _set_aside_lines() -> checkpoint.SetAsideCallback:
    """Return a callback that tells of weights in a model's folder that are not read, once a model."""
    told: set[str] = set()

    def tell(model: str, entry: str, others: Collection[str]) -> None:
        if model not in told:
            told.add(model)
            first, more = ", ".join(sorted(others)[:3]), len(others) - 3
            unread = f"{first} and {more} more" if more > 0 else first
            line = f"{model}: weights are read from {entry}, as transformers does; set aside: {unread}"
            print(harmless(line), file=sys.stderr, flush=True)

    return tell
