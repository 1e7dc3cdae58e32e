"""A project that can be distilled in a second: a tiny pair, and text in its words."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

from files import edit_json
from tiny_models import VOCABULARY, save_pair

from boomerang_cli.engine.distill import distill
from boomerang_cli.engine.distillation.result import DistillResult

RECIPE = ("--steps", "6", "--batch-size", "4", "--sequence-length", "16", "--learning-rate", "1e-2")
SETTINGS: dict[str, Any] = {"steps": 6, "batch_size": 4, "sequence_length": 16, "learning_rate": 1e-2}


def make_project(folder: Path, family: str = "gpt_neox", **changes: Any) -> Path:
    """Write ``teacher``, ``student-init``, ``train.txt`` and ``held-out.txt`` into ``folder``."""
    _, student = save_pair(folder, family, **changes)
    student.rename(folder / "student-init")
    write_text(folder / "train.txt", documents=120, seed=0)
    write_text(folder / "held-out.txt", documents=4, seed=1)
    return folder


def copy_project(made: Path, folder: Path) -> Path:
    """Copy a project into ``folder``, and let its student record the teacher there."""
    shutil.copytree(made, folder, dirs_exist_ok=True)
    edit_json(folder / "student-init" / "student_config.json", teacher=str(folder / "teacher"))
    return folder


def write_text(path: Path, *, documents: int, seed: int) -> Path:
    draw = random.Random(seed)
    words = [[f"w{draw.randrange(3, VOCABULARY)}" for _ in range(draw.randrange(5, 40))] for _ in range(documents)]
    path.write_text("\n<|endoftext|>\n".join(" ".join(document) for document in words))
    return path


def distil(folder: Path, **changes: Any) -> DistillResult:
    options = {"data": [str(folder / "train.txt")], "output": folder / "student", **SETTINGS, **changes}
    return distill(folder / "student-init", **options)
