"""Whether a size is better for being trained on: healed, or made of a student that was trained for as many steps more.

Takes the folder that `boomerang demo` made, patches its student at each k, and trains each size, and the student
itself, by each recipe and seed (of the order of the text): KL to the teacher in nats and perplexity on its held-out
text. A recipe is named as in ``curve_run.py``: `cosine-rate-0.0002` is the paper's but for its learning rate. What is
done is kept in OUTPUT, so that the same command goes on where it stopped; the last lines are the table.

    boomerang demo && python benchmarks/healing.py boomerang-demo --output healing --seeds 1 2
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from curve_run import values_of

RECIPES = (
    "relative-0.5-falling-weight-50-rate-0.0002",
    "relative-weight-50-rate-0.0002",
    "cosine-rate-0.0002",
    "relative-0.5-falling-weight-50-rate-0.002",
)
_BATCH: dict[str, int] = {"batch_size": 8, "sequence_length": 256, "micro_batch_size": 8}
_WINDOWS = 60

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 1, 3])
    parser.add_argument("--steps", type=int, default=50)
    chosen = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    chosen.output.mkdir(parents=True, exist_ok=True)
    kept = chosen.output / "results.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    for row in missing(rows, chosen):
        print(json.dumps(row), file=sys.stderr, flush=True)
        rows.append(row)
        with kept.open("a") as file:
            file.write(json.dumps(row) + "\n")
    print("\n".join(table(rows)))


def missing(rows: Sequence[Row], chosen: argparse.Namespace) -> Iterator[Row]:
    """Yield what each model scores that is not in ``rows``."""
    from boomerang_cli.engine.patch import patch

    done = {(row["way"], row["recipe"], row["seed"], row["k"]) for row in rows}
    student: Path = chosen.project / "student"
    for k in chosen.layers:
        if not (chosen.output / f"k{k}").is_dir():
            patch(layers=k, student=student, order="last", output=chosen.output / f"k{k}")
        if ("patched", "", 0, k) not in done:
            yield {"way": "patched", "recipe": "", "seed": 0, "k": k, **score(chosen.output / f"k{k}", 0, chosen)}
    for recipe in chosen.recipes:
        for seed in chosen.seeds:
            for k in chosen.layers:
                named = {"recipe": recipe, "seed": seed, "k": k}
                if ("healed", recipe, seed, k) not in done:
                    healed = train(chosen.output / f"k{k}", recipe, seed, chosen)
                    yield {"way": "healed", **named, **score(healed, 0, chosen)}
            left = [k for k in chosen.layers if ("student", recipe, seed, k) not in done]
            longer = train(student, recipe, seed, chosen) if left else student
            for k in left:
                yield {"way": "student", "recipe": recipe, "seed": seed, "k": k, **score(longer, k, chosen)}


def train(model: Path, recipe: str, seed: int, chosen: argparse.Namespace) -> Path:
    from boomerang_cli.engine.distill import distill

    data, target = [str(chosen.project / "text" / "train.txt")], chosen.output / "trained"
    shutil.rmtree(target, ignore_errors=True)
    values: dict[str, Any] = {**values_of(recipe), **_BATCH}
    return distill(model, output=target, data=data, steps=chosen.steps, seed=seed, **values).path


def score(student: Path, k: int, chosen: argparse.Namespace) -> dict[str, float | None]:
    from boomerang_cli.engine.sweep import sweep

    data, target = [str(chosen.project / "text" / "held-out.txt")], chosen.output / "sweep"
    shutil.rmtree(target, ignore_errors=True)
    swept = sweep(student=student, data=data, sequences=_WINDOWS, layers=[k], order=["last"], output=target)
    (row,) = swept.rows
    return {"kl": row.kl, "perplexity": row.perplexity}


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the table's lines: KL and perplexity by k, each seed's."""
    sizes = sorted({row["k"] for row in rows})
    yield f"| | recipe | {' | '.join(f'k = {k}: KL, perplexity' for k in sizes)} |"
    yield "|---" * (2 + len(sizes)) + "|"
    for way, recipe in dict.fromkeys((row["way"], row["recipe"]) for row in rows):
        of_this = [row for row in rows if (row["way"], row["recipe"]) == (way, recipe)]
        cells = [_cell([row for row in of_this if row["k"] == k]) for k in sizes]
        yield f"| {way} | {recipe} | {' | '.join(cells)} |"


def _cell(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    each = " ".join(f"{row['kl']:.4f}" for row in rows)
    return f"{each}, {statistics.mean(row['perplexity'] for row in rows):.2f}"


if __name__ == "__main__":
    main()
