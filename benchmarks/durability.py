"""What it costs to wait for the disk: `patch`, plain, with `--verify` and `--overwrite`, and a sweep's journal.

Makes a pair of random weights (1.2 GB and 0.7 GB at the default scale, removed at the end) and runs the sides in turns,
all dirty pages written before each. Told is how long a side took, and how much of that was spent in `fsync`; a plain
`patch` never waits.

    python benchmarks/durability.py
    python benchmarks/durability.py --scale 0.1 --rounds 3
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from patch import make_pair

from boomerang_cli.engine.evaluation import journal as journals
from boomerang_cli.engine.output import output_folder as output_folders
from boomerang_cli.engine.patch import patch

LINES = 200


waited: list[float] = []
"""Seconds of each wait."""


def timed(wait: Callable[[Path], None]) -> Callable[[Path], None]:
    def wait_and_tell(path: Path) -> None:
        started = time.perf_counter()
        wait(path)
        waited.append(time.perf_counter() - started)

    return wait_and_tell


def seconds_of(call: Callable[[], object]) -> float:
    os.sync()
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def compare_patch(folder: Path, rounds: int) -> None:
    def write(name: str, **options: bool) -> None:
        patch(layers=2, student=folder / "student", output=folder / name, **options)

    write("there")
    size = sum(path.stat().st_size for path in (folder / "there").iterdir())
    sides: dict[str, Callable[[], object]] = {
        "cp": lambda: shutil.copytree(folder / "there", folder / "new"),
        "plain": lambda: write("new"),
        "--verify": lambda: write("new", verify=True),
        "--overwrite": lambda: write("there", overwrite=True),
    }
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(runs)[:: 1 if number % 2 == 0 else -1]:
            waited.clear()
            seconds = seconds_of(sides[name])
            runs[name].append((seconds, sum(waited)))
            shutil.rmtree(folder / "new", ignore_errors=True)
    print(f"patch, output {size / 1e9:.2f} GB, medians\n{'':14}{'seconds':>9}{'of them waiting':>17}")
    for name in sides:
        seconds, waiting = map(statistics.median, zip(*runs[name], strict=True))
        print(f"{name:14}{seconds:>9.2f}{waiting:>17.2f}")


def compare_journal(folder: Path) -> None:
    print(f"\na sweep's journal, milliseconds a line of {LINES} (a value that took over a second is waited for)")
    for name, pause in (("waits for each", -1.0), ("as it is", journals._SECONDS_BETWEEN_SYNCS)):
        journals._SECONDS_BETWEEN_SYNCS = pause
        with journals.Journal(folder / name, {}) as journal:
            seconds = seconds_of(lambda: [journal.add(f"window {i}", {"0,1": [1.0] * 5}) for i in range(LINES)])
        print(f"{name:14}{1000 * seconds / LINES:>9.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.45, help="of the hidden size; 1 is Pythia-2.8B")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        make_pair(Path(folder), options.scale)
        for name in ("sync_tree", "sync_name"):
            setattr(output_folders, name, timed(getattr(output_folders, name)))
        compare_patch(Path(folder), options.rounds)
        compare_journal(Path(folder))


if __name__ == "__main__":
    main()
