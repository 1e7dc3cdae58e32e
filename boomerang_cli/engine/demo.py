"""``demo``: the whole pipeline on the built-in teacher, through the same functions as the commands."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boomerang_cli.demo.text import held_out_files, read_text, training_files
from boomerang_cli.engine.checkpoint.checkpoint import BUILTIN_DEMO, open_checkpoint
from boomerang_cli.engine.errors import TrainingError
from boomerang_cli.engine.evaluation.rows import SweepResult
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.output.output_folder import check_output, check_writable, output_folder
from boomerang_cli.engine.patch import patch

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
PROMPT = 'class Reader:\n    """Read lines from a file."""\n\n    def __init__(self, path):'
SAMPLE_TOKENS = 64


@dataclass(frozen=True)
class Sample:
    """How one model goes on from the prompt."""

    model: str
    layers: int
    text: str


@dataclass(frozen=True)
class DemoResult:
    """A project folder: text, student-init, student, patched model, sweep."""

    path: Path
    sweep: SweepResult
    samples: tuple[Sample, ...]


def demo(
    *,
    output: str | Path = "boomerang-demo",
    steps: int = STEPS,
    overwrite: bool = False,
    on_command: Callable[[str], None] = lambda command: None,
    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> DemoResult:
    """Make a project folder with the built-in teacher's student, an intermediate model, and a sweep.

    Args:
        steps: of distillation.
        on_command: called before each step with the command that does the same, to be typed in the project folder.
        on_progress: what is being done, how much of it is done, and how much there is.

    Raises:
        BoomerangError: the output exists, or cannot be written; this Python comes without its source.
    """
    target = Path(output)
    check_output(target, "demo", overwrite=overwrite)
    check_writable(target)
    if steps < 1:
        raise TrainingError(f"--steps {steps} must be 1 or more", usage=True)
    on_command(f"mkdir {output} && cd {output}")
    import torch  # takes seconds: what is refused is refused before

    # One thread, and one for reading the text: matrices are so small that more threads mostly wait for one another,
    # and the result does not depend on how many cores there are.
    torch.set_num_threads(1)
    stopped: KeyboardInterrupt | None = None
    with output_folder(target, "demo", overwrite=overwrite) as folder:
        try:
            with _inside(folder):
                swept, samples = _run(steps, on_command, on_progress)
        except KeyboardInterrupt as interrupt:
            trained = any((folder / name).exists() for name in ("student.training", "student"))
            if not trained or target.exists():
                raise KeyboardInterrupt("interrupted: nothing of it is kept, and nothing is replaced") from None
            stopped = interrupt  # nothing stands in its place: what there is becomes a project to go on with
        _rename_in_records(folder, target)
    if stopped is not None:
        raise KeyboardInterrupt(_what_is_kept(stopped, target))
    return DemoResult(target, swept, samples)


def _rename_in_records(folder: Path, target: Path) -> None:
    """Let what models and scores record name the project as it will be called, not the folder that it is made in."""
    here, there = (str(path.parent.resolve() / path.name) for path in (folder, target.absolute()))
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


def _what_is_kept(interrupt: KeyboardInterrupt, target: Path) -> str:
    """Say it as seen from where the command was typed."""
    from boomerang_cli.engine.distillation.interrupts import TrainingInterrupted

    if not isinstance(interrupt, TrainingInterrupted):
        return f"interrupted: what there is of the project is kept in {target}"
    here = TrainingInterrupted(target / interrupt.checkpoint, interrupt.step, interrupt.steps)
    return f"{here}: go on in {target} with the same `boomerang distill` and --resume"


def _run(
    steps: int, on_command: Callable[[str], None], on_progress: Callable[[str, int, int], None]
) -> tuple[SweepResult, tuple[Sample, ...]]:
    """Take all steps, in the current folder."""
    from boomerang_cli.engine.distill import distill
    from boomerang_cli.engine.sweep import sweep

    _write_text()
    on_command(f"boomerang init-student {BUILTIN_DEMO}")
    init_student(BUILTIN_DEMO)
    on_command(
        f"boomerang distill --recipe {RECIPE} --data {TRAINING_TEXT} --steps {steps} --batch-size {BATCH_SIZE} "
        f"--sequence-length {SEQUENCE_LENGTH} --learning-rate {LEARNING_RATE}"
    )
    distill(
        recipe=RECIPE,
        data=[str(TRAINING_TEXT)],
        steps=steps,
        batch_size=BATCH_SIZE,
        sequence_length=SEQUENCE_LENGTH,
        learning_rate=LEARNING_RATE,
        on_progress=lambda progress: on_progress("Distilling", progress.step, progress.steps),
    )
    on_command(f"boomerang patch --layers {PATCHED_BLOCKS}")
    patched = patch(layers=PATCHED_BLOCKS).path
    on_command(f"boomerang sweep --data {HELD_OUT_TEXT} --sequences {WINDOWS} --order first,last --baseline")
    swept = sweep(
        data=[str(HELD_OUT_TEXT)],
        sequences=WINDOWS,
        order=["first", "last"],
        baseline=True,
        on_progress=on_progress,
    )
    models = {"teacher": BUILTIN_DEMO, "student": "student", "in between": str(patched)}
    return swept, tuple(_sample(name, model) for name, model in models.items())


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


def _sample(name: str, model: str) -> Sample:
    import torch

    from boomerang_cli.engine.distillation.sequences import check_token_ids
    from boomerang_cli.engine.models.loading import load_model, load_tokenizer

    checkpoint = open_checkpoint(model)
    loaded: Any = load_model(checkpoint, checkpoint.config, dtype=torch.float32)
    tokenizer: Any = load_tokenizer(checkpoint)
    tokens = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    check_token_ids(tokens, tokenizer, loaded.config.vocab_size)
    torch.manual_seed(0)
    written = loaded.generate(tokens, max_new_tokens=SAMPLE_TOKENS, do_sample=True, temperature=0.5, top_p=0.9)
    text = str(tokenizer.decode(written[0], skip_special_tokens=True))
    return Sample(name, loaded.config.num_hidden_layers, text)
