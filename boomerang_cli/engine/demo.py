"""``demo``: the whole pipeline on the built-in teacher, through the same functions as the commands."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from boomerang_cli.demo.text import held_out_files, read_text, training_files
from boomerang_cli.engine.brief import Brief
from boomerang_cli.engine.checkpoint.checkpoint import BUILTIN_DEMO
from boomerang_cli.engine.errors import OutputError, TrainingError, check_least
from boomerang_cli.engine.evaluation.rows import SweepResult
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.output.output_folder import check_output, check_writable, output_folder
from boomerang_cli.engine.patch import patch
from boomerang_cli.engine.sizes import show_bytes, show_count

TRAINING_TEXT, HELD_OUT_TEXT = Path("text", "train.txt"), Path("text", "held-out.txt")
RECIPE = "between"
STEPS = 150
BATCH_SIZE = 8
SEQUENCE_LENGTH = 256
"""The built-in teacher's context."""
LEARNING_RATE = 2e-3
"""Higher than the published recipe's 3e-4: the model is a thousand times smaller, and there are few steps."""
WINDOWS = 64
PATCHED_BLOCKS = 2
PROMPT = "def read_lines(path):"
ROOM_BYTES = 80_000_000
"""What a project takes while it is made: text, models, and the checkpoint of a training."""

SECONDS_BESIDE_STEPS, SECONDS_OF_A_STEP = 30, 0.6
"""On two cores of a laptop: libraries, text and scores, and a step of distillation."""


@dataclass(frozen=True, repr=False)
class DemoResult(Brief):
    """A project folder: text, student-init, student, patched model, sweep.

    Attributes:
        sweep: its scores; paths are as seen from where the demo was called.
    """

    brief = ("path", "sweep")

    path: Path
    sweep: SweepResult


def demo(
    *,
    output: str | Path = "boomerang-demo",
    steps: int = STEPS,
    samples: bool = False,
    overwrite: bool = False,
    on_command: Callable[[str], None] = lambda command: None,
    on_note: Callable[[str], None] = lambda note: None,
    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> DemoResult:
    """Make a project folder with the built-in teacher's student, an intermediate model, and a sweep.

    Args:
        output (str | Path, default "boomerang-demo"): the folder to make.
        steps (int, default 150): of distillation.
        samples (bool, default False): let every size go on from a prompt, too.
        overwrite (bool, default False): replace an earlier project of this function; no other folder is ever replaced.
        on_command (Callable[[str], None], optional): called before each step with the command that does the same, to be
            typed in the project folder.
        on_note (Callable[[str], None], optional): called with what is to come, before anything that takes long, and
            with what each step made.
        on_progress (Callable[[str, int, int], None], optional): called with what is being done, how much of it is done,
            and how much there is.

    Raises:
        OutputError: the output exists, or cannot be written.
        TrainingError: less than one step.
        DataError: this Python comes without its source.
    """
    target = Path(output)
    check_output(target, "demo", overwrite=overwrite)
    check_writable(target)
    _check_room(target)
    check_least(1, TrainingError, steps=steps)
    training_files()  # refused before anything is made
    for line in _what_is_to_come(target, steps):
        on_note(line)
    on_command(f"mkdir -p {shlex.quote(str(output))} && cd {shlex.quote(str(output))}")
    on_progress("Loading libraries", 0, 1)
    import torch  # takes seconds: what is refused is refused before

    # One thread, and one for reading the text: matrices are so small that more threads mostly wait for one another,
    # and the result does not depend on how many cores there are.
    torch.set_num_threads(1)
    stopped: KeyboardInterrupt | None = None
    with output_folder(target, "demo", overwrite=overwrite) as folder:
        try:
            with _inside(folder):
                swept = _run(steps, samples, on_command, on_note, on_progress)
        except KeyboardInterrupt as interrupt:
            trained = any((folder / name).exists() for name in ("student.training", "student"))
            if not trained or target.exists():
                raise KeyboardInterrupt("interrupted: nothing of it is kept, and nothing is replaced") from None
            stopped = interrupt  # nothing stands in its place: what there is becomes a project to go on with
        _rename_in_records(folder, target)
    if stopped is not None:
        raise KeyboardInterrupt(_what_is_kept(stopped, target))
    return DemoResult(target, _seen_from_outside(swept, target))


def _check_room(target: Path) -> None:
    """Refuse a disk that would be full minutes later."""
    parent = next(folder for folder in target.absolute().parents if folder.exists())
    usage = shutil.disk_usage(parent)
    if usage.free < ROOM_BYTES and usage.total:  # /proc has nothing, and says why when it is written to
        raise OutputError(
            f"the demo takes {show_bytes(ROOM_BYTES)}, and the disk of {parent} has {show_bytes(usage.free)} free: "
            "make room, or give another --output"
        )


def _what_is_to_come(target: Path, steps: int) -> tuple[str, ...]:
    minutes = max(1, round((SECONDS_BESIDE_STEPS + steps * SECONDS_OF_A_STEP) / 60))
    return (
        "A small built-in teacher goes through the whole pipeline, with no network or GPU",
        f"About {minutes} minute{'s' if minutes > 1 else ''} on two cores; all of it goes to {target}, Ctrl-C stops it",
    )


def _seen_from_outside(swept: SweepResult, target: Path) -> SweepResult:
    """Return what was scored in the folder that the project was made in, with paths that hold from here."""
    return replace(
        swept,
        path=target / swept.path,
        student=str(_place(target) / "student"),
        data=tuple(str(target / name) for name in swept.data),
    )


def _rename_in_records(folder: Path, target: Path) -> None:
    """Let what models and scores record name the project as it will be called, not the folder that it is made in."""
    here, there = str(_place(folder)), str(_place(target))
    for record in folder.rglob("*.json*"):
        content = record.read_bytes()
        for ascii_only in (False, True):  # JSON has two spellings of a letter like é, and the records both
            made_in, called = (
                json.dumps(path, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "backslashreplace")
                for path in (here, there)
            )
            content = content.replace(made_in, called)
        if content != record.read_bytes():
            record.write_bytes(content)


def _place(folder: Path) -> Path:
    """Return a folder's path as models record it."""
    return folder.absolute().parent.resolve() / folder.name


def _what_is_kept(interrupt: KeyboardInterrupt, target: Path) -> str:
    """Say it as seen from where the command was typed."""
    from boomerang_cli.engine.distillation.interrupts import TrainingInterrupted

    if not isinstance(interrupt, TrainingInterrupted):
        return f"interrupted: what there is of the project is kept in {target}"
    here = TrainingInterrupted(target / interrupt.checkpoint, interrupt.step, interrupt.steps)
    return f"{here}: go on in {target} with the same `boomerang distill` and --resume"


def _run(
    steps: int,
    samples: bool,
    on_command: Callable[[str], None],
    on_note: Callable[[str], None],
    on_progress: Callable[[str, int, int], None],
) -> SweepResult:
    """Take all steps, in the current folder."""
    from boomerang_cli.engine.distill import distill
    from boomerang_cli.engine.sweep import sweep

    _write_text()
    on_command(f"boomerang init-student {BUILTIN_DEMO}")
    made = init_student(BUILTIN_DEMO)
    on_note(
        f"{made.path}: {made.student_layers} of {made.teacher_layers} layers, {show_count(made.parameters)} of "
        f"{show_count(made.teacher_parameters)} parameters"
    )
    on_command(
        f"boomerang distill --recipe {RECIPE} --data {TRAINING_TEXT} --steps {steps} --batch-size {BATCH_SIZE} "
        f"--sequence-length {SEQUENCE_LENGTH} --learning-rate {LEARNING_RATE}"
    )
    distilled = distill(
        recipe=RECIPE,
        data=[str(TRAINING_TEXT)],
        steps=steps,
        batch_size=BATCH_SIZE,
        sequence_length=SEQUENCE_LENGTH,
        learning_rate=LEARNING_RATE,
        on_progress=lambda progress: on_progress("Distilling", progress.step, progress.steps),
    )
    on_note(f"{distilled.path}: {show_count(distilled.tokens)} tokens in {distilled.seconds:.0f} s")
    on_command(f"boomerang patch --layers {PATCHED_BLOCKS}")
    patched = patch(layers=PATCHED_BLOCKS)
    on_note(f"{patched.path}: {patched.depth} layers, {show_count(patched.parameters)} parameters, not trained")
    prompt = f" --prompt {shlex.quote(PROMPT)}" if samples else ""
    on_command(f"boomerang sweep --data {HELD_OUT_TEXT} --sequences {WINDOWS} --order first,last --baseline{prompt}")
    return sweep(
        data=[str(HELD_OUT_TEXT)],
        sequences=WINDOWS,
        order=["first", "last"],
        baseline=True,
        prompt=[PROMPT] if samples else (),
        on_progress=on_progress,
    )


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in a folder, as a user would: the paths that models record then hold there."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _write_text() -> None:
    from boomerang_cli.engine.distillation.readers import END_OF_TEXT

    TRAINING_TEXT.parent.mkdir()
    for path, files in ((TRAINING_TEXT, training_files()), (HELD_OUT_TEXT, held_out_files())):
        path.write_text(END_OF_TEXT.join(map(read_text, files)), encoding="utf-8")
