"""What a process holds and how long it takes when 1, 2 and 4 of them load a teacher and its student, and save.

Makes a teacher of random weights in Pythia's shape and its student (removed at the end), and starts processes on the
CPU, over gloo. Told of each number of processes: the most that a process held above what its libraries take, beside
its own parts and one layer (the bound, by arithmetic), the wall time until all have loaded both models; the same where
each model is loaded whole in turns, as before; then a checkpoint: its wall time, beside a step's.

    python benchmarks/scale.py
    python benchmarks/scale.py --model 160m --processes 1,2
    python benchmarks/scale.py --model tiny --kills 30
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SHAPES = {
    "tiny": {"hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4, "vocab_size": 512},
    "70m": {"hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8},
    "160m": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "410m": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
}
MEBIBYTE = 2**20
TESTS = str(Path(__file__).parents[1] / "tests")


def make_pair(folder: Path, model: str) -> None:
    """Write a teacher with a word for each token, and its student."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    sys.path.insert(0, TESTS)
    from tiny_models import make_tokenizer

    from boomerang_cli.engine.init_student import init_student

    shape = SHAPES[model]
    shape = {"vocab_size": 50304, "intermediate_size": 4 * shape["hidden_size"], **shape}
    config = GPTNeoXConfig(rotary_pct=0.25, **shape)
    torch.manual_seed(0)
    GPTNeoXForCausalLM(config).half().save_pretrained(folder / "teacher")
    make_tokenizer().save_pretrained(folder / "teacher")
    init_student(folder / "teacher", output=folder / "student-init")
    (folder / "text.txt").write_text("\n".join(f"w{number % 60 + 3}" for number in range(4000)))


def start(folder: Path, processes: int, *words: str) -> list[subprocess.Popen[str]]:
    """Start this script again as several processes that find one another."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": port, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return [
        subprocess.Popen(
            [sys.executable, *words],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
        )
        for rank in range(processes)
    ]  # fmt: skip


def peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def load_in_this_process(way: str) -> None:
    """Load both models, and print what was seen as JSON; ``way`` is ``rows``, ``whole``, or ``save`` for all of it."""
    import torch
    import torch.distributed as distributed

    from boomerang_cli.engine.distillation import models
    from boomerang_cli.engine.pair.pair import open_pair
    from boomerang_cli.engine.processes.group import is_distributed

    distributed.init_process_group("gloo")
    pair, cpu = open_pair("student-init"), torch.device("cpu")
    models.check_parts = lambda *_: None  # a forward pass, in which the embedding and the head stand whole
    torch.nn.Linear(2, 2)(torch.zeros(1, 2)).sum().backward()  # what torch loads on its first use
    if way == "whole":
        models.reads_by_rows = lambda *_: False
    distributed.barrier()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before, started = peak_bytes(), time.perf_counter()
    student, teacher = models.load_student(pair, cpu), models.load_teacher(pair, cpu)
    distributed.barrier()
    seconds, peak = time.perf_counter() - started, peak_bytes() - before
    both = (student, teacher)
    own = sum(local(parameter).nbytes for model in both for parameter in model.parameters())
    layer = sum(parameter.numel() * 4 for parameter in teacher.gpt_neox.layers[0].parameters())
    seen: dict[str, Any] = {"seconds": seconds, "peak": peak, "own": own, "layer": layer}
    if way == "save" and is_distributed():
        seen |= time_a_save(student)
    print(json.dumps(seen))
    distributed.destroy_process_group()


def local(tensor: Any) -> Any:
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def time_a_save(student: Any) -> dict[str, float]:
    """Take a step of AdamW on 512 tokens, save, and tell seconds of both and the most that saving took beside."""
    import torch
    from transformers import TrainerState

    from boomerang_cli.engine.distillation.training_folder import TrainingFolder
    from boomerang_cli.engine.distillation.training_state import save_checkpoint

    optimizer = torch.optim.AdamW(student.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    started = time.perf_counter()
    tokens = torch.arange(512).view(1, -1)
    student(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    stepped = time.perf_counter()
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_bytes()
    folder = TrainingFolder(Path("student.training"))
    save_checkpoint(folder, student, optimizer, schedule, TrainerState(global_step=1), {}, None)
    return {"step": stepped - started, "save": time.perf_counter() - stepped, "save_peak": peak_bytes() - before}


def compare_loading(folder: Path, numbers: list[int]) -> None:
    print(f"{'processes':>9} {'way':>6} {'seconds':>8} {'peak MiB':>9} {'own parts':>10} {'one layer':>10}")
    for number in numbers:
        for way in ("rows", "whole") if number > 1 else ("rows",):
            seen = run(folder, number, way)
            worst = max(seen, key=lambda each: each["peak"])
            sizes = [worst[key] / MEBIBYTE for key in ("peak", "own", "layer")]
            print(f"{number:>9} {way:>6} {worst['seconds']:>8.1f} {sizes[0]:>9.0f} {sizes[1]:>10.0f} {sizes[2]:>10.0f}")


def compare_saving(folder: Path, numbers: list[int]) -> None:
    print(f"\n{'processes':>9} {'step s':>8} {'save s':>8} {'save peak MiB':>14}")
    for number in (number for number in numbers if number > 1):
        worst = max(run(folder, number, "save"), key=lambda each: each["save"])
        print(f"{number:>9} {worst['step']:>8.1f} {worst['save']:>8.1f} {worst['save_peak'] / MEBIBYTE:>14.0f}")


def run(folder: Path, processes: int, way: str) -> list[dict[str, Any]]:
    started = start(folder, processes, str(Path(__file__).resolve()), "--load", way)
    said = [each.communicate() for each in started]
    assert not any(each.returncode for each in started), said[0][1][-2000:]
    return [json.loads(output.splitlines()[-1]) for output, _ in said]


def kill_at_random(folder: Path, times: int) -> None:
    """Kill one of two processes at a random moment of a training that goes on each time; tell how the other ended."""
    draw = random.Random(0)
    words = ["-m", "boomerang_cli", "distill", "--data", "text.txt", "--repeat", "--steps", "100000", "--quiet"]
    words += ["--batch-size", "2", "--sequence-length", "16", "--save-every", "1", "--micro-batch-size", "1"]
    training, taken, reached = folder / "student.training", [], 0
    for number in range(times):
        both = start(folder, 2, *words, *(["--resume"] if number else []))
        while newest(training) <= reached:
            assert all(each.poll() is None for each in both), [each.communicate() for each in both]
            time.sleep(0.05)
        time.sleep(draw.random() * 3)
        which = draw.randrange(2)
        both[which].send_signal(signal.SIGKILL)
        killed = time.perf_counter()
        _, errors = both[1 - which].communicate()
        taken.append(time.perf_counter() - killed)
        lines = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert (len(lines), both[1 - which].returncode) == (1, 1), errors
        assert "go on from" in lines[0], errors
        reached = newest(training)
        print(f"{number + 1:>3}: process {which} killed at step {reached}, the other ended after {taken[-1]:.1f} s")
    print(f"{times} of {times} ended with one line and went on; the slowest took {max(taken):.1f} s")


def newest(training: Path) -> int:
    steps = [path.name.partition("-")[2] for path in training.glob("checkpoint-*")]
    return max((int(step) for step in steps if step.isdigit()), default=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SHAPES, default="410m")
    parser.add_argument("--processes", default="1,2,4")
    parser.add_argument("--kills", type=int, default=0, help="instead, kill one of two processes so often")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        return load_in_this_process(options.load)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        make_pair(folder, options.model)
        if options.kills:
            return kill_at_random(folder, options.kills)
        numbers = [int(number) for number in options.processes.split(",")]
        compare_loading(folder, numbers)
        return compare_saving(folder, numbers)


if __name__ == "__main__":
    main()
