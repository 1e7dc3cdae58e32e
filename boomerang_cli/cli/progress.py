"""How far the work is, on stderr: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from boomerang_cli.engine.sizes import show_bytes

SECONDS_BETWEEN_LINES = 10.0
"""Of progress where nobody sees a bar: often enough to tell that something goes on, seldom enough for a log."""
_SECONDS_BETWEEN_STAGES = 2.0
"""A stage that is over sooner needs no line."""


def byte_progress(label: str) -> AbstractContextManager[Callable[[int, int], None]]:
    """Give a callback for bytes done and bytes in all."""
    return _bar(label) if sys.stderr.isatty() else nullcontext(_lines(label))


def stage_progress() -> AbstractContextManager[Callable[[str, int, int], None]]:
    """Give a callback for what is being done, how much of it is done, and how much there is."""
    return _stage_bar() if sys.stderr.isatty() else _stage_lines()


def download_lines() -> Callable[[str, int, int], None]:
    """Return a callback that tells of models on their way into the cache: a line at the start, and now and then."""
    last = 0.0

    def update(repo_id: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"Fetching {repo_id}: {show_bytes(done)} of {show_bytes(total)}", file=sys.stderr, flush=True)

    return update


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
        if time.monotonic() - last > SECONDS_BETWEEN_LINES:
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


@contextmanager
def _stage_lines() -> Iterator[Callable[[str, int, int], None]]:
    stage, shown, last = "", "", time.monotonic()
    waiting = threading.Timer(0.0, lambda: None)  # none yet: it is never started

    def show(done: int, total: int) -> None:
        nonlocal shown, last
        shown, last = stage, time.monotonic()
        print(f"{stage}: {100 * done // max(total, 1)}%" if done else stage, file=sys.stderr, flush=True)

    def update(now: str, done: int, total: int) -> None:
        nonlocal stage, waiting
        if now != stage:
            waiting.cancel()
            stage, waiting = now, threading.Timer(_SECONDS_BETWEEN_STAGES, show, (done, total))
            waiting.daemon = True
            waiting.start()  # for a stage that tells no more until it is over, such as loading libraries
        if time.monotonic() - last > (SECONDS_BETWEEN_LINES if now == shown else _SECONDS_BETWEEN_STAGES):
            waiting.cancel()
            show(done, total)

    try:
        yield update
    finally:
        waiting.cancel()
