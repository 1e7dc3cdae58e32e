"""One student of ``curve.py``: a recipe of any name, a seed, so many steps; distilled, swept, and its scores kept.

python benchmarks/curve_run.py curve-demo '{"recipe": "relative-weight-20", "seed": 0, "steps": 150}' last first
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).parents[1]))

from boomerang_cli.engine.distillation.recipe import Alignment, Sampling, Schedule

_NUMBERS = {"weight": "cosine_weight", "rate": "learning_rate"}
_WORDS = {"patched_schedule": get_args(Schedule), "patched_sampling": get_args(Sampling)}
_TRIED = ("ends", "finish")
"""What is no option of a training: states at the ends of patchable blocks alone, without the embedding, layers that are
blocks of their own, and the final norm; and a last fifth of the steps as a training of its own, from a tenth of the
learning rate."""


def values_of(recipe: str) -> dict[str, Any]:
    """Return what a recipe changes of the paper's, by its name: ``relative-0.5-falling-weight-20``, ``cosine-0.25``.

    First the alignment; then the share of patched steps, its schedule, its sampling, ``weight`` or ``rate`` (of
    learning) with their number, as far as they are not the paper's; ``ends`` and ``finish`` are ``_TRIED``.

    Raises:
        ValueError: a name with something else in it.
    """
    if recipe in ("paper", "undistilled"):
        return {}
    alignment, *rest = recipe.split("-")
    if alignment not in get_args(Alignment):
        raise ValueError(alignment)
    values, words = {"alignment": alignment}, iter(rest)
    for word in words:
        if word in _NUMBERS:
            values[_NUMBERS[word]] = float(next(words, ""))
        elif word in _TRIED:
            values[word] = True
        elif keys := [key for key, known in _WORDS.items() if word in known]:
            values[keys[0]] = word
        else:
            values["patched_share"] = float(word)
    return values


@dataclass(frozen=True)
class Run:
    """One student: a recipe, a seed, and how long it is trained; all runs of a folder share the rest."""

    recipe: str
    seed: int
    steps: int

    def folder(self, output: Path) -> Path:
        return output / self.recipe / f"seed-{self.seed}-steps-{self.steps}"

    def result(self, output: Path) -> dict[str, Any] | None:
        file = self.folder(output) / "result.json"
        found: dict[str, Any] | None = json.loads(file.read_text()) if file.is_file() else None
        return found


def carry_out(run: Run, settings: Mapping[str, Any], output: Path, orders: Sequence[str]) -> None:
    import torch

    torch.set_num_threads(1)
    folder = run.folder(output)
    shutil.rmtree(folder, ignore_errors=True)  # what a run that was killed left
    folder.mkdir(parents=True)
    student, spent = output / "student-init", 0.0
    if run.recipe != "undistilled":
        before = _processor_seconds()
        student = distilled(run, settings, output)
        spent = _processor_seconds() - before
    rows = scores(student, settings, folder / "sweep", orders)
    result = {**asdict(run), "values": values_of(run.recipe), "processor_seconds": spent, "rows": rows}
    for name in ("student", "finished", "sweep"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "result.partial").write_text(json.dumps(result, indent=1))
    (folder / "result.partial").rename(folder / "result.json")


def distilled(run: Run, settings: Mapping[str, Any], output: Path) -> Path:
    from boomerang_cli.engine.distill import distill

    student, folder = output / "student-init", run.folder(output)
    values = {key: settings[key] for key in ("batch_size", "sequence_length", "learning_rate")} | values_of(run.recipe)
    if values.pop("ends", False):
        align_block_ends(student)
    finishing = run.steps // 5 if values.pop("finish", False) else 0
    values |= {"data": [settings["data"]], "repeat": True}
    student = distill(student, output=folder / "student", steps=run.steps - finishing, seed=run.seed, **values).path
    if not finishing:
        return student
    values["learning_rate"] /= 10
    # Another seed is other text: the same one would begin anew.
    return distill(student, output=folder / "finished", steps=finishing, seed=run.seed + 1000, **values).path


def align_block_ends(student: Path) -> None:
    """Leave out of both distances, in this process, what is not the end of a patchable block of ``student``."""
    from boomerang_cli.engine.distillation import losses
    from boomerang_cli.engine.pair.pair import open_pair

    ends = [block + 1 for block in open_pair(student).layer_map.patchable]  # what a block leaves enters the next one

    def at_ends(whole: Callable[..., Any]) -> Callable[..., Any]:
        return lambda student, teacher, *counted: whole(
            [student[end] for end in ends], [teacher[end] for end in ends], *counted
        )

    losses.cosine_loss, losses.relative_error_loss = at_ends(losses.cosine_loss), at_ends(losses.relative_error_loss)


def scores(student: Path, settings: Mapping[str, Any], output: Path, orders: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of a sweep, of which the folder ``output`` is left."""
    from boomerang_cli.engine.sweep import sweep

    swept = sweep(
        student=student,
        data=[settings["eval_data"]],
        sequences=settings["windows"],
        sequence_length=settings["sequence_length"],
        order=orders,
        yes=True,
        output=output,
        device="cpu",
    )
    keys = ("order", "layers", "parameters", "kl", "perplexity")
    return [{key: asdict(row)[key] for key in keys} for row in swept.rows]


def _processor_seconds() -> float:
    """Return what this process and those that it has waited for took: the reading one is waited for at the end."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the folder that curve.py writes, with its settings.json")
    parser.add_argument("run", type=lambda text: Run(**json.loads(text)), help="recipe, seed and steps, as JSON")
    parser.add_argument("orders", nargs="+")
    chosen = parser.parse_args()
    carry_out(chosen.run, json.loads((chosen.output / "settings.json").read_text()), chosen.output, chosen.orders)
