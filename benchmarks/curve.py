"""What an objective makes of the sizes in between: one pair's students, distilled by several recipes, scored at each k.

Each run is a `distill` and a `sweep` in a process of one thread; a run that is done is kept in the output folder, so
that the same command goes on where it stopped. Seeds change the order of the text and the draws of patched steps. After
equal steps come equal times, if asked for: as many steps as the processor time of the paper's recipe allows, by what
the runs of equal steps took (processor time, so that it does not matter what else the machine does).

    python benchmarks/curve.py --output curve-demo
    python benchmarks/curve.py --output curve-demo --equal time --recipes paper relative-0.5
    python benchmarks/curve.py --output curve-neox --teacher models/neox-16l --data train.txt --eval-data valid.txt

The last lines are the tables: KL to the teacher in nats for each k, mean and standard deviation over seeds; its area,
the mean of the curve over parameters from student to teacher; and what became of the student alone. What they
said stands in CONTRIBUTING.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from curve_run import Run, values_of

ORDERS = ("last", "first", "exact")
RECIPES = (
    "undistilled",
    "paper",
    "relative",
    "cosine-weight-50",
    "relative-weight-50",
    "relative-0.5-falling-weight-50",
)
"""Those that are compared unless told otherwise: each part of ``between`` alone, and all of it."""


def carry_out_all(runs: Sequence[Run], output: Path, orders: Sequence[str], jobs: int) -> None:
    missing = [run for run in runs if run.result(output) is None]
    print(f"{len(runs)} runs, {len(runs) - len(missing)} of them done before", file=sys.stderr, flush=True)

    def start(run: Run) -> None:
        script = Path(__file__).with_name("curve_run.py")
        command = [sys.executable, str(script), str(output), json.dumps(asdict(run)), *orders]
        one_thread = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(command, env=os.environ | one_thread, capture_output=True, text=True)
        if done.returncode:
            print(f"{run} failed: {done.stderr[-2000:]}", file=sys.stderr, flush=True)
            return
        (line,) = table([run], output, orders[:1])[2:]
        print(f"seed {run.seed} {line}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(start, missing))


# The pair and its text


def prepare(options: argparse.Namespace) -> None:
    """Write the settings that all runs of the folder share; those of a folder that was begun stay as they are."""
    file = options.output / "settings.json"
    keys = ("teacher", "steps", "batch_size", "sequence_length", "learning_rate", "windows")
    settings = {key: getattr(options, key) for key in keys}
    if not file.is_file():
        from boomerang_cli.engine.init_student import init_student

        options.output.mkdir(parents=True, exist_ok=True)
        settings |= _texts(options)
        init_student(options.teacher, output=options.output / "student-init", overwrite=True)
        file.write_text(json.dumps(settings, indent=1))
    kept: dict[str, Any] = json.loads(file.read_text())
    if differing := [key for key in keys if kept[key] != settings[key]]:
        sys.exit(f"{options.output} was begun with another {', '.join(differing)}: give another --output")


def _texts(options: argparse.Namespace) -> dict[str, str]:
    if options.data and options.eval_data:
        return {"data": str(options.data.resolve()), "eval_data": str(options.eval_data.resolve())}
    if options.data or options.eval_data or options.teacher != "builtin:demo":
        sys.exit("give --data and --eval-data; the built-in teacher alone brings its own")
    from boomerang_cli.demo.text import held_out_files, read_text, training_files
    from boomerang_cli.engine.distillation.readers import END_OF_TEXT

    paths = {"data": options.output / "train.txt", "eval_data": options.output / "held-out.txt"}
    for path, files in zip(paths.values(), (training_files(), held_out_files()), strict=True):
        path.write_text(END_OF_TEXT.join(map(read_text, files)), encoding="utf-8")
    return {key: str(path.resolve()) for key, path in paths.items()}


# Which runs, and what came of them


def runs_of_equal_steps(recipes: Sequence[str], seeds: Sequence[int], steps: int) -> list[Run]:
    """Seeds first: a folder that is not finished compares all recipes, by fewer seeds."""
    runs = [Run(recipe, seed, steps) for seed in seeds for recipe in recipes]
    return [run for run in runs if run.recipe != "undistilled" or run.seed == seeds[0]]


def runs_of_equal_time(recipes: Sequence[str], seeds: Sequence[int], steps: int, output: Path) -> list[Run]:
    def seconds(recipe: str) -> float:
        done = [Run(recipe, seed, steps).result(output) for seed in seeds]
        return statistics.median(each["processor_seconds"] for each in done if each)

    trained = [recipe for recipe in recipes if recipe != "undistilled"]
    allowed = {recipe: max(1, round(steps * seconds("paper") / seconds(recipe))) for recipe in trained}
    untrained = [Run("undistilled", seeds[0], steps)] if "undistilled" in recipes else []
    return [*untrained, *(Run(recipe, seed, allowed[recipe]) for seed in seeds for recipe in trained)]


def curve_of(result: Mapping[str, Any], order: str) -> list[dict[str, Any]]:
    """Return the rows of an order by k."""
    return sorted((row for row in result["rows"] if row["order"] == order), key=lambda row: row["layers"])


def area_of(curve: Sequence[Mapping[str, Any]]) -> float:
    """Return the mean of KL over parameters, from the student's to the teacher's (trapezoids)."""
    pieces = [
        (after["parameters"] - before["parameters"]) * (after["kl"] + before["kl"]) / 2
        for before, after in pairwise(curve)
    ]
    return sum(pieces) / (curve[-1]["parameters"] - curve[0]["parameters"])


def table(runs: Sequence[Run], output: Path, orders: Sequence[str]) -> list[str]:
    """Return lines of Markdown: of each order and recipe, over the seeds that are done."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        if (result := run.result(output)) is not None:
            found.setdefault(run.recipe, []).append(result)
    if not found:
        return []
    sizes = range(len(curve_of(next(iter(found.values()))[0], orders[0])))
    head = ["order", "recipe", "seeds", "steps", "processor s", "area", *(f"KL k={k}" for k in sizes), "student's ppl"]
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *_lines(found, orders)]


def _lines(found: Mapping[str, Sequence[Mapping[str, Any]]], orders: Sequence[str]) -> Iterator[str]:
    for order in orders:
        for recipe, results in found.items():
            curves = [curve for result in results if (curve := curve_of(result, order))]
            if not curves:  # its runs were of other orders
                continue
            cells = [order, recipe, str(len(curves)), str(results[0]["steps"])]
            cells += [f"{statistics.mean(result['processor_seconds'] for result in results):.0f}"]
            cells += [_spread([area_of(curve) for curve in curves])]
            cells += [_spread([row["kl"] for row in rows]) for rows in zip(*curves, strict=True)]
            cells += [_spread([curve[0]["perplexity"] for curve in curves], digits=2)]
            yield f"| {' | '.join(cells)} |"


def _spread(values: Sequence[float], digits: int = 4) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def recipe_name(text: str) -> str:
    values_of(text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("curve"))
    parser.add_argument("--teacher", default="builtin:demo")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--eval-data", type=Path)
    parser.add_argument(
        "--recipes",
        nargs="+",
        type=recipe_name,
        default=[*RECIPES],
        metavar="NAME",
        help="such as " + ", ".join(RECIPES),
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--equal", choices=("steps", "time"), default="steps")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--sequence-length", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--orders", nargs="+", choices=ORDERS, default=ORDERS)
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, of one thread each")
    options = parser.parse_args()
    prepare(options)
    runs = runs_of_equal_steps(options.recipes, options.seeds, options.steps)
    carry_out_all(runs, options.output, options.orders, options.jobs)
    if options.equal == "time":
        runs = runs_of_equal_time(options.recipes, options.seeds, options.steps, options.output)
        carry_out_all(runs, options.output, options.orders, options.jobs)
    print("\n".join(table(runs, options.output, options.orders)))


if __name__ == "__main__":
    main()
