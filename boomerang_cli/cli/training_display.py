"""Where a training stands, on stderr: a live display on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from boomerang_cli.cli.progress import SECONDS_BETWEEN_LINES
from boomerang_cli.engine import waiting
from boomerang_cli.engine.distillation.phase import Phase
from boomerang_cli.engine.distillation.progress import ProgressCallback, TrainingProgress
from boomerang_cli.engine.sizes import show_count

if TYPE_CHECKING:
    from rich.console import Console

    from boomerang_cli.engine.distillation.result import DistillResult

_SECONDS_BETWEEN_FRAMES = 0.2
"""Of a display while it scores: sequences may pass by the hundred."""


def training_progress() -> AbstractContextManager[ProgressCallback]:
    """Give a callback for where training stands."""
    return _display() if sys.stderr.isatty() else nullcontext(_Lines())


@contextmanager
def _display() -> Iterator[ProgressCallback]:
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    console = Console(stderr=True)
    # No thread of its own: the process that reads the text is forked while this runs.
    begun, last = False, 0.0
    with (
        Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False) as live,
        _waits_above(console),
    ):

        def update(progress: TrainingProgress) -> None:
            nonlocal begun, last
            if not begun:
                begun = True
                console.print(_note(progress), highlight=False)
            if progress.evaluating and progress.evaluating[1] and time.monotonic() - last < _SECONDS_BETWEEN_FRAMES:
                return
            last = time.monotonic()
            lines = Table.grid()
            lines.add_row(ProgressBar(total=progress.steps, completed=progress.step, width=min(60, console.width)))
            for line in filter(None, (_pace(progress), _evaluating(progress) or _losses(progress))):
                lines.add_row(line)
            live.update(lines, refresh=True)

        yield update


@contextmanager
def _waits_above(console: Console) -> Iterator[None]:
    """Have words on waiting stand above the display, which a plain line would break."""
    before = waiting.on_wait
    if before is not None:
        waiting.on_wait = lambda text: console.print(text, highlight=False, markup=False)
    try:
        yield
    finally:
        waiting.on_wait = before


class _Lines:
    """A line for news, and now and then; one that says what is being scored if it takes long."""

    def __init__(self) -> None:
        self._shown: TrainingProgress | None = None
        self._last = 0.0
        self._soon = threading.Timer(0.0, lambda: None)  # none yet: it is never started

    def __call__(self, progress: TrainingProgress) -> None:
        stopping = progress.stopping and not (self._shown and self._shown.stopping)
        if not stopping:  # which a signal tells of, perhaps in the middle of this
            self._soon.cancel()
        if not self._last:
            self._say(_note(progress))
        silence = time.monotonic() - self._last
        if progress.evaluating and not stopping:
            if progress.evaluating[1] == 0:
                self._soon = threading.Timer(waiting.FIRST_SECONDS, self._say, [_evaluating(progress)])
                self._soon.daemon = True
                self._soon.start()
            elif silence > SECONDS_BETWEEN_LINES:
                self._say(_evaluating(progress))
        elif stopping or self._is_news(progress) or silence > SECONDS_BETWEEN_LINES:
            self._shown = progress
            self._say("; ".join(filter(None, (_pace(progress), _losses(progress)))))

    def _is_news(self, progress: TrainingProgress) -> bool:
        shown = self._shown
        if shown is None or progress.evaluation != shown.evaluation:
            return True
        is_last = progress.step == progress.steps and not progress.evaluation  # else an evaluation follows
        return is_last and progress.losses != shown.losses

    def _say(self, line: str) -> None:
        self._last = time.monotonic()
        print(line, file=sys.stderr, flush=True)


def evaluation_course(result: DistillResult) -> str | None:
    """Return how far training came on held-out text: from where, to where, and what the teacher has."""
    if not result.eval:
        return None
    told = ((result.eval_before, "before"), (result.eval, "after"), (result.eval_teacher, "of the teacher"))
    return "held-out perplexity: " + ", ".join(f"{each['perplexity']:.2f} {what}" for each, what in told if each)


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


def _evaluating(progress: TrainingProgress) -> str:
    if progress.evaluating is None:
        return ""
    owner, done, total = progress.evaluating
    return f"evaluating the {owner} on held-out text: {done} of {total} sequences"


def _losses(progress: TrainingProgress) -> str:
    parts: list[str] = []
    if losses := progress.losses:
        each = ", ".join(f"{key.replace('_', ' ')} {value:.3f}" for key, value in losses.items() if key != "total")
        parts += [f"loss {losses['total']:.3f} ({each})", f"learning rate {progress.learning_rate:.1e}"]
    if progress.evaluation:
        teacher = progress.teacher_evaluation
        beside = f" (teacher {teacher['perplexity']:.2f})" if teacher else ""
        parts.append(f"held-out perplexity {progress.evaluation['perplexity']:.2f}{beside}")
    return ", ".join(parts)


def _show_seconds(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
