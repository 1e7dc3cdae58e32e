"""Memory that ``distill --dry-run`` predicts against memory that a training takes: resident, on processes of the CPU.

Models have random weights and the published shapes; each process trains two steps of two micro-batches, as Trainer
does, and reads its own peak. The bound is 15 % (what stood there before the models were made is taken off).

    python benchmarks/memory_plan.py --model pythia-160m --sequence-length 512 --micro-batch-size 2
    python benchmarks/memory_plan.py --model pythia-410m --processes 2
    python benchmarks/memory_plan.py --model wide --sequence-length 128 --micro-batch-size 4 --processes 2
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig

sys.path.insert(0, str(Path(__file__).parents[1]))
from boomerang_cli.engine.distillation.batch_losses import BatchLosses
from boomerang_cli.engine.distillation.cost import ModelSize
from boomerang_cli.engine.distillation.levers import Levers
from boomerang_cli.engine.distillation.memory_plan import Memory, MemoryPlan
from boomerang_cli.engine.distillation.phase import Phase
from boomerang_cli.engine.distillation.recipe import Recipe
from boomerang_cli.engine.distillation.sharding import shard, split_root
from boomerang_cli.engine.distillation.step_memory import StepOnNoMemory
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.models.hidden_states import decoder_layers
from boomerang_cli.engine.pair.pair import Pair, open_pair

BOUND = 0.15


def _neox(hidden: int, layers: int, heads: int, vocabulary: int = 50304) -> GPTNeoXConfig:
    return GPTNeoXConfig(
        vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * hidden, max_position_embeddings=2048, rotary_pct=0.25, tie_word_embeddings=False,
    )  # fmt: skip


def _llama() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=32000, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, num_key_value_heads=4,
        intermediate_size=2048, tie_word_embeddings=True,
    )  # fmt: skip


CONFIGS = {
    "many-words": _neox(256, 8, 4, 20000),
    "wide": _neox(768, 6, 12, 1000),
    "pythia-160m": _neox(768, 12, 12),
    "pythia-410m": _neox(1024, 24, 16),
    "llama-160m": _llama(),
}


def make_pair(folder: Path, model: str) -> Pair:
    """Write a teacher of random weights, and its student."""
    torch.manual_seed(0)
    if not (folder / "student").exists():
        AutoModelForCausalLM.from_config(CONFIGS[model]).save_pretrained(folder / "teacher")
        init_student(folder / "teacher", output=folder / "student")
    return open_pair(folder / "student", folder / "teacher")


def predicted(pair: Pair, phase: Phase, levers: Levers, processes: int, sequences: int) -> Memory:
    sizes = [ModelSize.of(pair.parts[owner], pair.config(owner), pair.family) for owner in ("student", "teacher")]
    plan = MemoryPlan(*sizes, 4, levers.optimizer_bytes)
    return plan.memory(StepOnNoMemory(pair, Recipe(), levers, on_gpu=False).memory(phase), processes, sequences)


def train(pair: Pair, phase: Phase, levers: Levers, sequences: int) -> int:
    """Train two steps, and return how far this process's resident memory rose."""
    torch.set_num_threads(1)
    load_libraries()
    gc.collect()
    before = resident_bytes()
    models = []
    layer_map = pair.layer_map
    for owner, depth in (("student", layer_map.student_layers), ("teacher", layer_map.teacher_layers)):
        config = {**pair.config(owner)}
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(type(CONFIGS[options.model]).from_dict(config)).eval()
        if owner == "teacher":
            model.requires_grad_(False)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            shard(model, decoder_layers(model, depth), torch.device("cpu"))
        model.to_empty(device="cpu")
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.normal_(std=0.02) if tensor.is_floating_point() else tensor.zero_()
        model.tie_weights()
        models.append(model)
    student, teacher = models
    levers.pull(student, teacher, layer_map)
    losses = BatchLosses(student, teacher, layer_map, Recipe(), contextlib.nullcontext)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    reset_peak()
    for _ in range(2):
        for _ in range(2):
            ids = torch.randint(1000, (sequences, phase.sequence_length))
            total, _ = losses.of_phase(phase, ids)
            total.backward()
            del total
            split_root(teacher)
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return peak_bytes() - before


def load_libraries() -> None:
    """Take a step of a model of no size: what libraries load as they are first used is not a training's."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        shard(model, model, torch.device("cpu"))
    model(torch.ones(1, 2)).sum().backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    torch.optim.AdamW(model.parameters(), fused=True).step()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measured(folder: Path) -> int:
    """Run the training in fresh processes, and return the largest rise."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    count = options.processes
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    shared["MALLOC_MMAP_THRESHOLD_"] = str(2**16)  # what is freed goes back at once, or fragments would be counted
    command = [sys.executable, __file__, *sys.argv[1:], "--folder", str(folder)]
    started = [
        subprocess.Popen(command, env={**os.environ, **shared, "RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(count)
    ]
    return max(json.loads(each.communicate()[0].splitlines()[-1]) for each in started)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(CONFIGS), default="pythia-160m")
    parser.add_argument("--sequence-length", type=int, default=512)
    parser.add_argument("--micro-batch-size", type=int, default=2)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--attention")
    parser.add_argument("--folder", type=Path, help="of the models: run one process, and print its rise")
    return parser.parse_args()


def main() -> None:
    phase = Phase("text", "", 1, 8 * options.processes, options.sequence_length)
    levers = Levers(gradient_checkpointing=options.gradient_checkpointing, attention=options.attention)
    if options.folder:
        if options.processes > 1:
            torch.distributed.init_process_group("gloo")
        print(train(make_pair(options.folder, options.model), phase, levers, options.micro_batch_size), flush=True)
        os._exit(0)  # what torch does at exit is not measured
    with tempfile.TemporaryDirectory() as folder:
        pair = make_pair(Path(folder), options.model)
        parts = predicted(pair, phase, levers, options.processes, options.micro_batch_size)
        found = measured(Path(folder))
    for name, size in vars(parts).items():
        print(f"{name:24}{size / 1e6:12,.1f} MB")
    print(f"{'predicted':24}{parts.total / 1e6:12,.1f} MB")
    print(f"{'measured':24}{found / 1e6:12,.1f} MB")
    off = parts.total / found - 1
    print(f"predicted / measured {1 + off:.3f}, bound within {BOUND:.0%}: {'held' if abs(off) <= BOUND else 'MISSED'}")


if __name__ == "__main__":
    options = parse_options()
    main()
