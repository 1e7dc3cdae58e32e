"""`boomerang patch` (k = 2) or `init-student` against `cp` of the same output, and against the plain way: one run.

Makes a pair with Pythia-2.8B's configuration and random bf16 weights (8.7 GB, removed at the end), then runs the sides
in turns, and prints the medians of wall time and peak memory. The plain way is what one writes first: load both models
with transformers, deep-copy the layers, `save_pretrained`.

    python benchmarks/patch.py
    python benchmarks/patch.py --verb init-student
    python benchmarks/patch.py --scale 0.1 --dtype float16

A fair race: the file that `cp` copies was written plainly (one made by `copy_file_range` can read back slower from the
page cache); before each run, all that any side reads is read once, `sync` leaves no run another one's dirty pages, and
memory of twice the output's size, in large pages and in small ones, is taken and given back: in a virtual machine whose
host has taken free memory away, the first to write pays for getting it again, several times what a copy costs.
Peaks below that of this script itself, some 30 MB, cannot be told apart.
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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BOUND_SAME, BOUND_CONVERTED = 1.3, 3.0  # SPEC.md: of cp's time
BYTES_SAME, BYTES_CONVERTED = 150e6, 400e6
LAYERS = 2

MAKE_TEACHER = """
import sys, torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
width = round(2560 * float(sys.argv[2])) // 32 * 32
config = GPTNeoXConfig(hidden_size=width, num_hidden_layers=32, num_attention_heads=32, intermediate_size=4 * width,
    vocab_size=50304, rotary_pct=0.25, tie_word_embeddings=False, dtype="bfloat16")
with torch.device("meta"):
    model = GPTNeoXForCausalLM(config).to(torch.bfloat16)
model.to_empty(device="cpu")
for parameter in model.parameters():
    parameter.data.normal_(0, 0.02)
model.save_pretrained(sys.argv[1], max_shard_size="5GB")
"""

PLAIN_WAY = """
import copy, json, sys, torch
from transformers import AutoModelForCausalLM
teacher_folder, student_folder, output, count = *sys.argv[1:4], int(sys.argv[4])
teacher = AutoModelForCausalLM.from_pretrained(teacher_folder, dtype=torch.bfloat16)
student = AutoModelForCausalLM.from_pretrained(student_folder, dtype=torch.bfloat16)
kept = json.load(open(f"{student_folder}/student_config.json"))["copied_teacher_layers"]
ends = [*kept[1:], teacher.config.num_hidden_layers]
patchable = [i for i, (start, stop) in enumerate(zip(kept, ends)) if stop - start > 1][-count:]
layers = []
for i, (start, stop) in enumerate(zip(kept, ends)):
    own = i < patchable[0]
    layers += [copy.deepcopy(student.gpt_neox.layers[i])] if own else [
        copy.deepcopy(teacher.gpt_neox.layers[j]) for j in range(start, stop)]
student.gpt_neox.layers = torch.nn.ModuleList(layers)
student.gpt_neox.final_layer_norm = copy.deepcopy(teacher.gpt_neox.final_layer_norm)
student.set_output_embeddings(copy.deepcopy(teacher.get_output_embeddings()))
student.config.num_hidden_layers = len(layers)
student.save_pretrained(output)
"""

TAKE_MEMORY = """
import mmap, sys
size, kept = int(sys.argv[1]), []
for advice in (mmap.MADV_HUGEPAGE, mmap.MADV_NOHUGEPAGE):
    kept.append(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    kept[-1].madvise(advice)
    kept[-1][::4096] = bytes(len(range(0, size, 4096)))
"""


@dataclass(frozen=True)
class Run:
    """One process: wall seconds, those of all processors together, and peak resident memory in bytes."""

    seconds: float
    processor_seconds: float
    peak_bytes: int


def measure(command: Sequence[str]) -> Run:
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"failed: {' '.join(command)[:200]}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def write_plainly(source: Path, target: Path) -> None:
    target.mkdir()
    for path in source.iterdir():
        with path.open("rb") as reader, (target / path.name).open("wb") as writer:
            while data := reader.read(8 * 2**20):
                writer.write(data)


def warm(*folders: Path) -> None:
    for folder in folders:
        for path in folder.iterdir():
            with path.open("rb", buffering=0) as file:
                while file.read(8 * 2**20):
                    pass


def level_the_field(folders: Sequence[Path], output_bytes: int) -> None:
    warm(*folders)
    os.sync()
    subprocess.run([sys.executable, "-c", TAKE_MEMORY, str(output_bytes)], check=True)


def make_pair(folder: Path, scale: float) -> None:
    subprocess.run([sys.executable, "-c", MAKE_TEACHER, str(folder / "teacher"), str(scale)], check=True)
    boomerang("init-student", str(folder / "teacher"), "-o", str(folder / "made"))
    write_plainly(folder / "made", folder / "student")
    shutil.rmtree(folder / "made")


def boomerang(*arguments: str) -> None:
    subprocess.run([*BOOMERANG, *arguments, "--quiet"], check=True, stdout=subprocess.DEVNULL)


BOOMERANG = [sys.executable, "-m", "boomerang_cli"]


def compare(folder: Path, options: argparse.Namespace) -> None:
    verb = {
        "patch": ["patch", "--layers", str(LAYERS), "--student", str(folder / "student")],
        "init-student": ["init-student", str(folder / "teacher")],
    }[options.verb]
    ours = [*verb, "--dtype", options.dtype]
    boomerang(*ours, "-o", str(folder / "first"))
    write_plainly(folder / "first", folder / "same")
    shutil.rmtree(folder / "first")
    sources = [str(folder / name) for name in ("teacher", "student")]
    commands = {
        "boomerang": [*BOOMERANG, *ours, "-o", str(folder / "patched")],
        "cp": ["cp", "-r", str(folder / "same"), str(folder / "copied")],
    }
    if options.verb == "patch":
        commands["plain way"] = [sys.executable, "-c", PLAIN_WAY, *sources, str(folder / "plain"), str(LAYERS)]
    read = [folder / name for name in ("teacher", "student", "same")]
    runs = take_turns(commands, options.rounds, read, [folder / name for name in ("patched", "copied", "plain")])
    print(f"boomerang {options.verb} --dtype {options.dtype}, output {bytes_of(folder / 'same') / 1e9:.2f} GB")
    show(runs, options.dtype)


def take_turns(
    commands: Mapping[str, Sequence[str]], rounds: int, read: Sequence[Path], written: Sequence[Path]
) -> dict[str, list[Run]]:
    """Run each command so many times, every other round the other way round, from the same state of the machine.

    Args:
        read: folders that the commands read; the last is as large as the output.
        written: folders that they write, which are removed.
    """
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    output_bytes = bytes_of(read[-1])
    for round_number in range(rounds):
        for name in list(commands) if round_number % 2 == 0 else list(commands)[::-1]:
            level_the_field(read, output_bytes)
            runs[name].append(measure(list(commands[name])))
            for folder in written:
                shutil.rmtree(folder, ignore_errors=True)
            last = runs[name][-1]
            print(
                f"round {round_number + 1} {name}: {last.seconds:.2f} s, {last.peak_bytes / 1e6:,.0f} MB",
                file=sys.stderr,
            )
    return runs


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def show(runs: dict[str, list[Run]], dtype: str) -> None:
    same = dtype in ("auto", "bfloat16")
    show_against(runs, *((BOUND_SAME, BYTES_SAME) if same else (BOUND_CONVERTED, BYTES_CONVERTED)))


def show_against(runs: dict[str, list[Run]], bound: float, most_bytes: float) -> None:
    """Print medians and peaks, and whether boomerang's are within so many times those of cp, and so many bytes."""
    seconds = {name: statistics.median(run.seconds for run in each) for name, each in runs.items()}
    peaks = {name: max(run.peak_bytes for run in each) for name, each in runs.items()}
    processors = {name: statistics.median(run.processor_seconds for run in each) for name, each in runs.items()}
    print(f"{'':18}{'seconds':>10}{'of cp':>8}{'of CPUs':>10}{'peak MB':>10}")
    for name in runs:
        print(
            f"{name:18}{seconds[name]:>10.2f}{seconds[name] / seconds['cp']:>8.2f}{processors[name]:>10.2f}"
            f"{peaks[name] / 1e6:>10,.0f}"
        )
    ratio = seconds["boomerang"] / seconds["cp"]
    print(f"time {ratio:.2f}x of cp, bound at most {bound}x: {'kept' if ratio <= bound else 'MISSED'}")
    peak = peaks["boomerang"]
    print(f"peak memory {peak / 1e6:.0f} MB, bound under {most_bytes / 1e6:.0f} MB: "
          f"{'kept' if peak < most_bytes else 'MISSED'}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verb", choices=["patch", "init-student"], default="patch")
    parser.add_argument("--scale", type=float, default=1.0, help="of the hidden size; 1 is Pythia-2.8B")
    parser.add_argument("--dtype", default="auto", help="of the output; float16 or float32 measure a dtype change")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        make_pair(Path(folder), options.scale)
        compare(Path(folder), options)


if __name__ == "__main__":
    main()
