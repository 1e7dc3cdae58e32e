"""`boomerang patch` from the Hub against downloading both models and patching them: bytes fetched, and wall time.

Serves a pair with Pythia-410M's configuration (float16, random bytes, 1.2 GB, removed at the end) from the Hub double
in `tests/`, on loopback. Each side starts with an empty cache and is measured in turns; medians are printed.

    python benchmarks/hub.py
    python benchmarks/hub.py --layers 6 --rate 20

Loopback is faster than any network, and both sides and the server share this machine: there, time is mostly work done a
byte. With `--rate` each connection carries so many megabytes a second, as on a long way. The other side is
huggingface_hub over plain HTTP, which takes one connection a file; with hf_xet it takes several.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from hub_double import HubDouble
from published import PAIRS, write_student, write_teacher

WIDTH, DEPTH = 1024, 24
MOST_BYTES = 150e6  # SPEC.md: memory of a patch
PYTHIA_410M = replace(
    PAIRS[2],
    config={
        **PAIRS[2].config,
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": 16,
    },
    dtypes=("F16", "F16"),
)

DOWNLOAD_BOTH = """
import sys
from huggingface_hub import snapshot_download
from boomerang_cli.engine.patch import patch
student, teacher = (snapshot_download(repo_id) for repo_id in ("lab/student", "lab/teacher"))
patch(layers=int(sys.argv[1]), student=student, teacher=teacher, output=sys.argv[2])
"""


@dataclass(frozen=True)
class Run:
    seconds: float
    fetched_bytes: int
    peak_bytes: int


def make_pair(hub: HubDouble, folder: Path) -> None:
    for write, name in ((write_teacher, "teacher"), (write_student, "student")):
        made = write(folder / name, PYTHIA_410M)
        for path in made.glob("*.safetensors"):
            fill(path)
        hub.add_model(f"lab/{name}", made)


def fill(path: Path) -> None:
    """Put random bytes where a file of holes should hold tensors."""
    noise = os.urandom(4 * 2**20)
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        position = file.seek(8 + int.from_bytes(file.read(8), "little"))
        while position < size:
            position += file.write(noise[: size - position])


def measure(hub: HubDouble, folder: Path, command: list[str]) -> Run:
    hub.requests.clear()
    os.sync()
    started = time.perf_counter()
    process = subprocess.Popen(command, env=hub.environment(folder / "home"), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"failed: {' '.join(command)[:200]}")
    return Run(seconds, sum(request.bytes_sent for request in hub.requests), usage.ru_maxrss * 1024)


def compare(hub: HubDouble, folder: Path, options: argparse.Namespace) -> dict[str, list[Run]]:
    layers, output = str(options.layers), str(folder / "output")
    words = ["patch", "--layers", layers, "--student", "lab/student", "--teacher", "lab/teacher", "-o", output]
    commands = {
        "boomerang": [sys.executable, "-m", "boomerang_cli", *words, "--quiet"],
        "download both": [sys.executable, "-c", DOWNLOAD_BOTH, layers, output],
    }
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    results = set()
    for round_number in range(options.rounds):
        for name in list(commands) if round_number % 2 == 0 else list(commands)[::-1]:
            runs[name].append(measure(hub, folder, commands[name]))
            results.add((folder / "output" / "model.safetensors").stat().st_size)
            print(f"round {round_number + 1} {name}: {runs[name][-1].seconds:.2f} s", file=sys.stderr)
            for left in ("output", "home"):
                shutil.rmtree(folder / left)
    assert len(results) == 1, "the two sides made different models"
    return runs


def show(runs: dict[str, list[Run]], options: argparse.Namespace) -> None:
    seconds = {name: statistics.median(run.seconds for run in each) for name, each in runs.items()}
    fetched = {name: each[0].fetched_bytes for name, each in runs.items()}
    peaks = {name: max(run.peak_bytes for run in each) for name, each in runs.items()}
    rate = f"{options.rate:g} MB/s a connection" if options.rate else "loopback as it is"
    print(f"Pythia-410M's shape, k = {options.layers}, {rate}")
    print(f"{'':16}{'MB fetched':>12}{'seconds':>10}{'peak MB':>10}")
    for name in runs:
        print(f"{name:16}{fetched[name] / 1e6:>12,.1f}{seconds[name]:>10.2f}{peaks[name] / 1e6:>10.0f}")
    ours, theirs = runs
    print(f"bytes {fetched[ours] / fetched[theirs]:.2f}x, time {seconds[ours] / seconds[theirs]:.2f}x of {theirs}")
    kept = "kept" if peaks[ours] < MOST_BYTES else "MISSED"
    print(f"peak memory {peaks[ours] / 1e6:.0f} MB, bound under {MOST_BYTES / 1e6:.0f} MB: {kept}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=2, help="k")
    parser.add_argument("--rate", type=float, help="megabytes a second of each connection to the storage")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    options = parser.parse_args()
    with HubDouble() as hub, tempfile.TemporaryDirectory(dir=options.folder) as folder:
        make_pair(hub, Path(folder))
        if options.rate:
            hub.slow("GET", "/objects/", bytes_per_second=options.rate * 1e6)
        show(compare(hub, Path(folder), options), options)


if __name__ == "__main__":
    main()
