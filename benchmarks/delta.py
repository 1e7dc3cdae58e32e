"""`boomerang init-student --delta` against `cp` of the same output, in one run.

Makes a base, a post-trained teacher and a distilled student with the configuration of `benchmarks/patch.py`'s pair and
random bf16 weights (at scale 1 Pythia-2.8B's, 14.4 GB, removed at the end), then runs both sides in turns, and prints
the medians of wall time and peak memory. Every tensor of the output is computed from three others: what is read is
three times what is written. How the race is kept fair is told there.

    python benchmarks/delta.py
    python benchmarks/delta.py --scale 0.7 --dtype float16
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from patch import BOOMERANG, MAKE_TEACHER, boomerang, bytes_of, show_against, take_turns, write_plainly

BOUND, MOST_BYTES = 3.0, 400e6  # SPEC.md: of cp's time

CHANGE = """
import shutil, sys
import torch
from pathlib import Path
from safetensors.torch import load_file, save_file
source, target = map(Path, sys.argv[1:])
shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors"))
for path in source.glob("*.safetensors"):
    tensors = load_file(path)
    for tensor in tensors.values():
        tensor.add_(torch.empty_like(tensor).normal_(0, 0.002))
    save_file(tensors, target / path.name, metadata={"format": "pt"})
"""


def make_models(folder: Path, scale: float) -> None:
    """Write ``base``, ``teacher`` and ``student``, in which no tensor is another's."""
    subprocess.run([sys.executable, "-c", MAKE_TEACHER, str(folder / "base"), str(scale)], check=True)
    boomerang("init-student", str(folder / "base"), "-o", str(folder / "init"))
    for source, target in (("base", "teacher"), ("init", "student")):
        subprocess.run([sys.executable, "-c", CHANGE, str(folder / source), str(folder / target)], check=True)
    shutil.rmtree(folder / "init")


def compare(folder: Path, dtype: str, rounds: int) -> None:
    ours = ["init-student", str(folder / "teacher"), "--delta", str(folder / "student"), "--dtype", dtype]
    boomerang(*ours, "-o", str(folder / "first"))
    write_plainly(folder / "first", folder / "same")
    shutil.rmtree(folder / "first")
    commands = {
        "boomerang": [*BOOMERANG, *ours, "-o", str(folder / "made")],
        "cp": ["cp", "-r", str(folder / "same"), str(folder / "copied")],
    }
    read = [folder / name for name in ("base", "teacher", "student", "same")]
    runs = take_turns(commands, rounds, read, [folder / "made", folder / "copied"])
    print(f"boomerang init-student --delta --dtype {dtype}, output {bytes_of(folder / 'same') / 1e9:.2f} GB")
    show_against(runs, BOUND, MOST_BYTES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of the hidden size; 1 is Pythia-2.8B")
    parser.add_argument("--dtype", default="auto", help="of the output; float16 or float32 measure a dtype change")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        make_models(Path(folder), options.scale)
        compare(Path(folder), options.dtype, options.rounds)


if __name__ == "__main__":
    main()
