"""Peak memory of `build_intermediate_model` against the size of its result, and against the plain way: one run.

Each side runs in a process of its own; what it takes before it loads anything (torch, transformers) is taken off.
The plain way loads both models with transformers and deep-copies the layers.

    python benchmarks/intermediate.py --scale 0.5
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from patch import LAYERS, PLAIN_WAY, make_pair

BOUND = 1.2  # SPEC.md: peak over the result's size

MEASURE = """
import json, resource, sys, torch, transformers
from transformers import GPTNeoXForCausalLM
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
{body}
size = sum(p.numel() * p.element_size() for p in {model}.parameters())
for p in {model}.parameters():
    p.data.sum()  # what is mapped from a file is read only when it is used
print(json.dumps([peak() - before, size]))
"""
OURS = """
from boomerang_cli import build_intermediate_model
model = build_intermediate_model(sys.argv[1], sys.argv[2], int(sys.argv[4]))
"""


def measure(name: str, body: str, model: str, folder: Path) -> float:
    code = MEASURE.format(body=body, model=model)
    arguments = [str(folder / "teacher"), str(folder / "student"), "unused", str(LAYERS)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    peak, size = json.loads(done.stdout.splitlines()[-1])
    print(f"{name:26} peak {peak / 1e9:6.2f} GB, result {size / 1e9:6.2f} GB: {peak / size:.2f}x")
    return float(peak / size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of the hidden size; 1 is Pythia-2.8B")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_pair(Path(folder), options.scale)
        ratio = measure("build_intermediate_model", OURS, "model", Path(folder))
        without_saving = PLAIN_WAY[: PLAIN_WAY.index("student.save_pretrained")]
        measure("plain way", without_saving, "student", Path(folder))
    print(f"peak {ratio:.2f}x of the result, bound at most {BOUND}x: {'kept' if ratio <= BOUND else 'MISSED'}")


if __name__ == "__main__":
    main()
