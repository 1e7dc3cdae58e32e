"""``demo``: the whole pipeline on the built-in teacher, through the same functions as the commands."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boomerang_cli.demo.text import held_out_files, read_text, training_files
from boomerang_cli.engine.checkpoint import BUILTIN_DEMO, open_checkpoint
from boomerang_cli.engine.errors import TrainingError
from boomerang_cli.engine.evaluation.rows import SweepResult
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.output_folder import check_output
from boomerang_cli.engine.patch import patch

TRAINING_TEXT, HELD_OUT_TEXT = Path("text", "train.txt"), Path("text", "held-out.txt")
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
    check_output(Path(output), overwrite=overwrite)
    if steps < 1:
        raise TrainingError(f"--steps {steps} must be 1 or more")
    on_command(f"mkdir {output} && cd {output}")
    import torch  # takes seconds: what is refused is refused before

    from boomerang_cli.engine.distillation.distill import distill
    from boomerang_cli.engine.evaluation.sweep import sweep

    # One thread, and one for reading the text: matrices are so small that more threads mostly wait for one another,
    # and the result does not depend on how many cores there are.
    torch.set_num_threads(1)
    shutil.rmtree(output, ignore_errors=True)
    with _inside(Path(output)):
        _write_text()
        on_command(f"boomerang init-student {BUILTIN_DEMO}")
        init_student(BUILTIN_DEMO)
        on_command(
            f"boomerang distill --data {TRAINING_TEXT} --steps {steps} --batch-size {BATCH_SIZE} "
            f"--sequence-length {SEQUENCE_LENGTH} --learning-rate {LEARNING_RATE}"
        )
        distill(
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
        samples = tuple(_sample(name, model) for name, model in models.items())
    return DemoResult(Path(output), swept, samples)


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in a folder, as a user would: the paths that models record then hold there."""
    folder.mkdir(parents=True)
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
    from boomerang_cli.engine.loading import load_model, load_tokenizer

    checkpoint = open_checkpoint(model)
    loaded: Any = load_model(checkpoint, checkpoint.config, dtype=torch.float32)
    tokenizer: Any = load_tokenizer(checkpoint)
    tokens = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    check_token_ids(tokens, tokenizer, loaded.config.vocab_size)
    torch.manual_seed(0)
    written = loaded.generate(tokens, max_new_tokens=SAMPLE_TOKENS, do_sample=True, temperature=0.5, top_p=0.9)
    text = str(tokenizer.decode(written[0], skip_special_tokens=True))
    return Sample(name, loaded.config.num_hidden_layers, text)
