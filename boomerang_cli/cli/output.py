"""The only module that prints: stdout carries the result alone, stderr progress, notes, hints and errors."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint import checkpoint, family_of
from boomerang_cli.engine.checkpoint import hub_reading as hub
from boomerang_cli.engine.distillation.progress import ProgressCallback, TrainingProgress
from boomerang_cli.engine.output.plan import Plan
from boomerang_cli.engine.sizes import show_bytes, show_count

_SECONDS_BETWEEN_LINES = 10.0
"""Of progress where nobody sees a bar: often enough to tell that something goes on, seldom enough for a log."""
_SECONDS_BETWEEN_STAGES = 2.0
"""A stage that is over sooner needs no line."""

_SECONDS_FOR_FIRST_PROCESS = 5.0
_LONGEST_MESSAGE = 1000


class Output:
    """How one command speaks.

    Args:
        as_json: one JSON object on stdout and nothing else there.
        quiet: no progress, notes or hints; errors alone on stderr.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self._as_json, self._quiet = as_json, quiet
        hub.on_download = None if quiet else _download_lines()
        checkpoint.on_set_aside = None if quiet else _set_aside_lines()
        family_of.on_derived = None if quiet else _derived_lines()

    def result(self, result: Any, text: str) -> None:
        """Print what the command made: ``text``, or the fields of ``result`` (a dataclass or a mapping) as JSON."""
        print(json.dumps(as_plain(result)) if self._as_json else text, flush=True)  # ASCII: JSON in any encoding

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

    @contextmanager
    def training(self) -> Iterator[ProgressCallback | None]:
        """Yield a callback for where training stands: a live display on a terminal, else a line now and then."""
        with redirect_stdout(sys.stderr):  # trackers print on stdout, which is the result's
            if self._quiet:
                yield None
            elif sys.stderr.isatty():
                with _training_display() as update:
                    yield update
            else:
                yield _training_lines()

    @contextmanager
    def stages(self) -> Iterator[Callable[[str, int, int], None]]:
        """Yield a callback for what is being done, how much of it is done, and how much there is."""
        with redirect_stdout(sys.stderr):  # evaluation tasks may print
            if self._quiet:
                yield lambda stage, done, total: None
            elif sys.stderr.isatty():
                with _stage_bar() as update:
                    yield update
            else:
                yield _stage_lines()


def error(message: str) -> None:
    """Print one line on stderr that says why the command failed.

    Of several processes that train together the first one speaks. Another waits for the launcher to end it; if that
    does not happen, it alone has failed, and says so.
    """
    rank = os.environ.get("RANK", "0")
    if rank != "0":
        time.sleep(_SECONDS_FOR_FIRST_PROCESS)
        message = f"{message} (process {rank})"
    print(f"error: {_harmless(message)}", file=sys.stderr, flush=True)


def _harmless(message: str) -> str:
    """Return a message as one line of bearable length, without tokens, and without what a terminal would obey.

    Names and values in it may come from a stranger's files.
    """
    words = re.sub(r"\b(hf|api_org)_[A-Za-z0-9]{20,}", r"\1_…", " ".join(message.split()))
    line = "".join(each if each.isprintable() else _escaped(each) for each in words)
    return line if len(line) <= _LONGEST_MESSAGE else f"{line[:_LONGEST_MESSAGE]}…"


def _escaped(character: str) -> str:
    """Return ``\\x1b`` for a character; of a name that is no UTF-8, for each byte of it."""
    code = ord(character)
    return f"\\x{code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code:02x}"


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


def _download_lines() -> Callable[[str, int, int], None]:
    """Return a callback that tells of models on their way into the cache: a line at the start, and now and then."""
    last = 0.0

    def update(repo_id: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"Fetching {repo_id}: {show_bytes(done)} of {show_bytes(total)}", file=sys.stderr, flush=True)

    return update


def _derived_lines() -> family_of.DerivedCallback:
    """Return a callback that tells of a type that is in no table, once a type."""
    told: set[str] = set()

    def tell(model: str, model_type: str) -> None:
        if model_type not in told:
            told.add(model_type)
            line = f"{model}: {model_type} is derived, not in the table: compare a result with the model before use"
            print(_harmless(line), file=sys.stderr, flush=True)

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
            print(_harmless(line), file=sys.stderr, flush=True)

    return tell


def _lines(label: str) -> Callable[[int, int], None]:
    last = time.monotonic()

    def update(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{label}: {show_bytes(done)} of {show_bytes(total)}", file=sys.stderr, flush=True)

    return update


@contextmanager
def _stage_bar() -> Iterator[Callable[[str, int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    # A copy of stderr of its own: while an evaluation task runs, nothing comes through the other.
    with (
        os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors) as stderr,
        Progress(*columns, console=Console(file=stderr), transient=True, redirect_stdout=False) as bar,
    ):
        task = bar.add_task("", total=None)
        shown = ""

        def update(stage: str, done: int, total: int) -> None:
            nonlocal shown
            if stage != shown:
                shown = stage
                bar.reset(task, description=stage, total=total)
            bar.update(task, completed=done)

        yield update


def _stage_lines() -> Callable[[str, int, int], None]:
    shown, last = "", time.monotonic()

    def update(stage: str, done: int, total: int) -> None:
        nonlocal shown, last
        pause = _SECONDS_BETWEEN_LINES if stage == shown else _SECONDS_BETWEEN_STAGES
        if time.monotonic() - last > pause:
            shown, last = stage, time.monotonic()
            print(f"{stage}: {100 * done // max(total, 1)}%" if done else stage, file=sys.stderr, flush=True)

    return update


@contextmanager
def _training_display() -> Iterator[ProgressCallback]:
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    console = Console(stderr=True)
    # No thread of its own: the process that reads the text is forked while this runs.
    with Live(
        console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as live:

        def update(progress: TrainingProgress) -> None:
            if progress.step == 0 and not progress.stopping:
                console.print(_training_note(progress), highlight=False)
            lines = Table.grid()
            lines.add_row(ProgressBar(total=progress.steps, completed=progress.step, width=min(60, console.width)))
            for line in filter(None, (_training_pace(progress), _training_losses(progress))):
                lines.add_row(line)
            live.update(lines, refresh=True)

        yield update


def _training_lines() -> ProgressCallback:
    shown: TrainingProgress | None = None
    last = 0.0

    def update(progress: TrainingProgress) -> None:
        nonlocal shown, last
        if shown is None:
            print(_training_note(progress), file=sys.stderr, flush=True)
        news = (
            shown is None
            or progress.evaluation != shown.evaluation
            or progress.stopping
            or progress.step == progress.steps
        )
        if news or time.monotonic() - last > _SECONDS_BETWEEN_LINES:
            shown, last = progress, time.monotonic()
            parts = (_training_pace(progress), _training_losses(progress))
            print("; ".join(filter(None, parts)), file=sys.stderr, flush=True)

    return update


def _training_note(progress: TrainingProgress) -> str:
    tokens = show_count(progress.steps * progress.tokens_per_step)
    return (
        f"{progress.steps:,} steps of {progress.tokens_per_step:,} tokens: {tokens} tokens, "
        f"micro-batch size {progress.micro_batch_size}"
    )


def _training_pace(progress: TrainingProgress) -> str:
    parts = [f"step {progress.step:,} of {progress.steps:,}"]
    if progress.tokens_per_second:
        parts.append(f"{progress.tokens_per_second:,.0f} tokens/s")
    if progress.seconds_left is not None:
        parts.append(f"{_show_seconds(progress.seconds_left)} left")
    if progress.stopping:
        parts.append("stopping once this step is finished and saved")
    return ", ".join(parts)


def _training_losses(progress: TrainingProgress) -> str:
    parts: list[str] = []
    if losses := progress.losses:
        names = {"cross entropy": "cross_entropy", "kl": "kl", "cosine": "cosine"}
        each = ", ".join(f"{name} {losses[key]:.3f}" for name, key in names.items())
        parts += [f"loss {losses['total']:.3f} ({each})", f"learning rate {progress.learning_rate:.1e}"]
    if progress.evaluation:
        parts.append(f"held-out perplexity {progress.evaluation['perplexity']:.2f}")
    return ", ".join(parts)


def _show_seconds(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
