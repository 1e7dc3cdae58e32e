"""The only module that prints: stdout carries the result alone, stderr progress, notes, hints and errors."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from boomerang_cli.engine.plan import Plan
from boomerang_cli.engine.sizes import show_bytes

_SECONDS_BETWEEN_LINES = 10.0
"""Of progress where nobody sees a bar: often enough to tell that something goes on, seldom enough for a log."""


class Output:
    """How one command speaks.

    Args:
        as_json: one JSON object on stdout and nothing else there.
        quiet: no progress, notes or hints; errors alone on stderr.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self._as_json, self._quiet = as_json, quiet

    def result(self, result: Any, text: str) -> None:
        """Print what the command made: ``text``, or the fields of ``result`` (a dataclass or a mapping) as JSON."""
        print(json.dumps(as_plain(result), ensure_ascii=False) if self._as_json else text, flush=True)

    def plan(self, result: Any, plan: Plan) -> None:
        """Print what a command would write, and from where."""
        shards = [(shard.file, shard.size_bytes, len(shard.copies), len(shard.runs)) for shard in plan.shards]
        keys = ("file", "bytes", "tensors", "copies")
        content = {
            **as_plain(result),
            "dry_run": True,
            "fetch_bytes": dict(plan.fetch_bytes),
            "files": [dict(zip(keys, each, strict=True)) for each in shards],
        }
        rows = [[file, show_bytes(size), str(tensors), str(copies)] for file, size, tensors, copies in shards]
        rows += [[file.name, show_bytes(file.size_bytes), "", "1"] for file in plan.companions]
        rows += [[name, "", "", ""] for name in ("config.json", *plan.documents)]
        self.result(content, table(["file", "size", "tensors", "copies"], rows))
        for repo_id, size in plan.fetch_bytes.items():
            self.note(f"{show_bytes(size)} would be fetched from {repo_id}")

    def note(self, text: str) -> None:
        """Say on stderr what was done or decided."""
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)

    def hint(self, command: str, why: str) -> None:
        """Say on stderr what to type next."""
        self.note(f"hint: {why}: `{command}`")

    @contextmanager
    def progress(self, label: str) -> Iterator[Callable[[int, int], None]]:
        """Yield a callback for bytes done and bytes in all: a bar on a terminal, else a line now and then."""
        if self._quiet:
            yield lambda done, total: None
        elif sys.stderr.isatty():
            with _bar(label) as update:
                yield update
        else:
            yield _lines(label)


def error(message: str) -> None:
    """Print one line on stderr that says why the command failed."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return aligned columns: the first to the left, the others to the right."""
    lines = [list(headings), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                  for column, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in lines
    )  # fmt: skip


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


@contextmanager
def _bar(label: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(label: str) -> Callable[[int, int], None]:
    last = time.monotonic()

    def update(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{label}: {show_bytes(done)} of {show_bytes(total)}", file=sys.stderr, flush=True)

    return update
