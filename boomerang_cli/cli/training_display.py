"""Where a training stands, on stderr: a live display on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from boomerang_cli.cli.progress import SECONDS_BETWEEN_LINES
from boomerang_cli.engine.distillation.phase import Phase
from boomerang_cli.engine.distillation.progress import ProgressCallback, TrainingProgress
from boomerang_cli.engine.sizes import show_count


def training_progress() -> AbstractContextManager[ProgressCallback]:
    """Give a callback for where training stands."""
    return _display() if sys.stderr.isatty() else nullcontext(_lines())


@contextmanager
def _display() -> Iterator[ProgressCallback]:
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
                console.print(_note(progress), highlight=False)
            lines = Table.grid()
            lines.add_row(ProgressBar(total=progress.steps, completed=progress.step, width=min(60, console.width)))
            for line in filter(None, (_pace(progress), _losses(progress))):
                lines.add_row(line)
            live.update(lines, refresh=True)

        yield update


def _lines() -> ProgressCallback:
    shown: TrainingProgress | None = None
    last = 0.0

    def update(progress: TrainingProgress) -> None:
        nonlocal shown, last
        if shown is None:
            print(_note(progress), file=sys.stderr, flush=True)
        news = (
            shown is None
            or progress.evaluation != shown.evaluation
            or progress.stopping
            or progress.step == progress.steps
        )
        if news or time.monotonic() - last > SECONDS_BETWEEN_LINES:
            shown, last = progress, time.monotonic()
            parts = (_pace(progress), _losses(progress))
            print("; ".join(filter(None, parts)), file=sys.stderr, flush=True)

    return update


def _note(progress: TrainingProgress) -> str:
    phases = progress.phases
    if len(phases) < 2 and not any(phase.response_only for phase, _ in phases):
        tokens = show_count(progress.steps * progress.tokens_per_step)
        return (
            f"{progress.steps:,} steps of {progress.tokens_per_step:,} tokens: {tokens} tokens, "
            f"micro-batch size {progress.micro_batch_size}"
        )
    return "; ".join(f"{_note_on_phase(phase)}, micro-batch size {size}" for phase, size in phases)


def _note_on_phase(phase: Phase) -> str:
    what = (
        f"{phase.batch_size:,} conversations of up to" if phase.response_only else f"{phase.batch_size:,} sequences of"
    )
    return f"{phase.name}: {phase.steps:,} steps of {what} {phase.sequence_length:,} tokens"


def _pace(progress: TrainingProgress) -> str:
    phase = f" ({progress.phase})" if len(progress.phases) > 1 else ""
    parts = [f"step {progress.step:,} of {progress.steps:,}{phase}"]
    if progress.tokens_per_second:
        parts.append(f"{progress.tokens_per_second:,.0f} tokens/s")
    if progress.seconds_left is not None:
        parts.append(f"{_show_seconds(progress.seconds_left)} left")
    if progress.stopping:
        parts.append("stopping once this step is finished and saved")
    return ", ".join(parts)


def _losses(progress: TrainingProgress) -> str:
    parts: list[str] = []
    if losses := progress.losses:
        each = ", ".join(f"{key.replace('_', ' ')} {value:.3f}" for key, value in losses.items() if key != "total")
        parts += [f"loss {losses['total']:.3f} ({each})", f"learning rate {progress.learning_rate:.1e}"]
    if progress.evaluation:
        parts.append(f"held-out perplexity {progress.evaluation['perplexity']:.2f}")
    return ", ".join(parts)


def _show_seconds(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
