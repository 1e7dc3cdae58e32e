"""The lean distillation step against the plain three-loss step: same models, same batch, one run.

The plain step is what one writes first: the full logits of both models, all hidden states of both, each loss by its
torch function. Each side runs in a fresh process, so that peak memory is its own; the sides take turns.

    python benchmarks/distill.py --device cpu --model pythia-160m --sequence-length 256 --micro-batch-size 4
    python benchmarks/distill.py --device cuda --model pythia-2.8b --sequence-length 2048 --micro-batch-size 8
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

sys.path.insert(0, str(Path(__file__).parents[1]))
from boomerang_cli.engine.distillation.losses import distillation_loss
from boomerang_cli.engine.models.hidden_states import decoder_layers
from boomerang_cli.engine.pair.layers import LayerMap, default_kept_layers

# hidden size, layers, heads; both: feed-forward 4 times as wide, rotary on a quarter, 50304 tokens, untied
SHAPES = {"pythia-160m": (768, 12, 12), "pythia-2.8b": (2560, 32, 32)}
VOCABULARY = 50304
SIDES = ("plain", "lean")
SPEED_BOUND, MEMORY_BOUND = 1.5, 0.6  # SPEC.md, on a GPU


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One side, one process."""

    side: str
    losses: list[float]
    seconds_per_step: float
    processor_seconds_per_step: float
    tokens_per_second: float
    peak_bytes: int
    bytes_before_first_step: int
    flops_per_step: float
    matmul_flops_per_second: float

    @property
    def step_bytes(self) -> int:
        """What training adds to the two models: optimiser state, gradients, activations, logits."""
        return self.peak_bytes - self.bytes_before_first_step

    @property
    def utilisation(self) -> float:
        return self.flops_per_step / self.seconds_per_step / self.matmul_flops_per_second


# Models


def make_model(model: str, layers: int, attention: str, device: str, dtype: torch.dtype) -> GPTNeoXForCausalLM:
    hidden, _, heads = SHAPES[model]
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        rotary_pct=0.25,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        attn_implementation=attention,
    )
    with torch.device(device):
        return GPTNeoXForCausalLM(config).to(dtype).eval()  # eval, as in training: no dropout


def make_pair(options: argparse.Namespace) -> tuple[GPTNeoXForCausalLM, GPTNeoXForCausalLM, LayerMap]:
    """Random weights; the student copies its layers from the teacher, as `init-student` does."""
    torch.manual_seed(0)
    depth = SHAPES[options.model][1]
    layer_map = LayerMap(depth, default_kept_layers(depth))
    half = torch.bfloat16 if options.device == "cuda" else torch.float32
    teacher = make_model(options.model, depth, options.attention, options.device, half).requires_grad_(False)
    student = make_model(options.model, layer_map.student_layers, options.attention, options.device, torch.float32)
    with torch.no_grad():
        for own, kept in enumerate(layer_map.kept):
            decoder_layers(student)[own].load_state_dict(decoder_layers(teacher)[kept].state_dict())
        for name in ("embed_in", "final_layer_norm"):
            getattr(student.gpt_neox, name).load_state_dict(getattr(teacher.gpt_neox, name).state_dict())
        student.get_output_embeddings().load_state_dict(teacher.get_output_embeddings().state_dict())
    return student, teacher, layer_map


def compile_layers(*models: GPTNeoXForCausalLM) -> None:
    """Each layer's forward, one graph for all layers of a model; hooks on the layers stay outside of it."""
    for model in models:
        for layer in decoder_layers(model):
            layer.forward = torch.compile(layer.forward)


# The two sides


def plain_loss(
    student: GPTNeoXForCausalLM, teacher: GPTNeoXForCausalLM, layer_map: LayerMap, input_ids: Tensor
) -> Tensor:
    with torch.no_grad():
        theirs = teacher(input_ids, output_hidden_states=True, use_cache=False)
    ours = student(input_ids, output_hidden_states=True, use_cache=False)
    logits, teacher_logits = ours.logits.float(), theirs.logits.float()
    cross_entropy = F.cross_entropy(logits[:, :-1].flatten(0, 1), input_ids[:, 1:].flatten())
    kl = F.kl_div(
        F.log_softmax(logits, dim=-1), F.log_softmax(teacher_logits, dim=-1), reduction="none", log_target=True
    )
    distances = [
        1 - F.cosine_similarity(ours.hidden_states[own].float(), theirs.hidden_states[other].float(), dim=-1).mean()
        for own, other in layer_map.aligned_states
    ]
    return cross_entropy + 0.1 * kl.sum(-1).mean() + 2.0 / len(distances) * sum(distances)


def loss_of(options: argparse.Namespace) -> Callable[..., Tensor]:
    if options.side == "plain":
        return plain_loss
    chunk_bytes = options.chunk_megabytes * 2**20 if options.chunk_megabytes else None
    return lambda *arguments: distillation_loss(*arguments, chunk_bytes=chunk_bytes).total


def measure(options: argparse.Namespace) -> Measurement:
    student, teacher, layer_map = make_pair(options)
    if options.compile == "both" or options.compile == options.side:
        compile_layers(student, teacher)
    if options.gradient_checkpointing:
        student.train()  # Pythia has no dropout; layers are checkpointed in training mode alone
        student.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(
        student.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=options.device == "cuda" or None
    )
    loss_function = loss_of(options)
    shape = (options.micro_batch_size, options.sequence_length)
    input_ids = torch.randint(0, VOCABULARY, shape, device=options.device)

    def step() -> Tensor:
        half = contextlib.nullcontext() if options.device == "cpu" else torch.autocast("cuda", dtype=torch.bfloat16)
        with half:
            loss = loss_function(student, teacher, layer_map, input_ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    before = memory_now(options.device)
    losses, seconds, processor_seconds = [], [], []
    for _ in range(options.warmup_steps + options.steps):
        start, processor_start = time.perf_counter(), time.process_time()
        losses.append(step().item())  # waits for the loss; the rest of the step is waited for below
        synchronize(options.device)
        seconds.append(time.perf_counter() - start)
        processor_seconds.append(time.process_time() - processor_start)
    peak = memory_peak(options.device)
    if options.profile:
        profile(step, options)
    seconds_per_step = statistics.median(seconds[options.warmup_steps :])
    return Measurement(
        side=options.side,
        losses=losses,
        seconds_per_step=seconds_per_step,
        processor_seconds_per_step=statistics.median(processor_seconds[options.warmup_steps :]),
        tokens_per_second=input_ids.numel() / seconds_per_step,
        peak_bytes=peak,
        bytes_before_first_step=before,
        flops_per_step=input_ids.numel() * flops_per_token(student, teacher, options.sequence_length),
        matmul_flops_per_second=matmul_flops_per_second(options.device),
    )


# What is measured


def flops_per_token(student: GPTNeoXForCausalLM, teacher: GPTNeoXForCausalLM, sequence_length: int) -> float:
    """Forward and backward of the student (6 a weight), forward of the teacher (2), and attention.

    Weights are those that are multiplied: the head is, the embedding is looked up. Attention as PaLM counts it
    (arXiv 2204.02311, appendix B): 4 * hidden * sequence a layer and forward pass, the causal half not taken off.
    """
    total = 0.0
    for model, passes in ((student, 3), (teacher, 1)):
        weights = model.num_parameters() - model.get_input_embeddings().weight.numel()
        attention = 4 * model.config.num_hidden_layers * model.config.hidden_size * sequence_length
        total += passes * (2 * weights + attention)
    return total


def matmul_flops_per_second(device: str) -> float:
    """The best of several large products, bf16 on a GPU and float32 on a CPU: what utilisation is measured against."""
    size, dtype = (8192, torch.bfloat16) if device == "cuda" else (2048, torch.float32)
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        synchronize(device)
        start = time.perf_counter()
        left @ right
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def profile(step: Callable[[], Tensor], options: argparse.Namespace) -> None:
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if options.device == "cuda" else []
    with torch.profiler.profile(activities=activities) as profiler:
        step()
        synchronize(options.device)
    key = f"self_{options.device}_time_total"
    print(profiler.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=60), file=sys.stderr)


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def memory_now(device: str) -> int:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    # Linux: the peak starts again from here, so that making the models is not part of it.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def memory_peak(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


# Both sides


def run_side(side: str, arguments: list[str]) -> Measurement:
    command = [sys.executable, __file__, *arguments, "--side", side]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    return Measurement(**json.loads(output.splitlines()[-1]))


def median_of(measurements: list[Measurement]) -> Measurement:
    """The measurement with the middle speed; its memory and losses are those of the others, to rounding."""
    return sorted(measurements, key=lambda each: each.seconds_per_step)[len(measurements) // 2]


def show(plain: Measurement, lean: Measurement, device: str) -> None:
    print(f"{'':28}{'plain':>12}{'lean':>12}{'lean/plain':>12}")
    rows: list[tuple[str, Callable[[Measurement], float], str]] = [
        ("tokens per second", lambda side: side.tokens_per_second, ",.1f"),
        ("seconds per step", lambda side: side.seconds_per_step, ".3f"),
        # On a CPU that others use too, this is steadier than the seconds on the clock.
        ("processor seconds per step", lambda side: side.processor_seconds_per_step, ".3f"),
        ("peak memory, GiB", lambda side: side.peak_bytes / 2**30, ".2f"),
        ("before the first step, GiB", lambda side: side.bytes_before_first_step / 2**30, ".2f"),
        ("added by training, GiB", lambda side: side.step_bytes / 2**30, ".2f"),
        ("model FLOP utilisation, %", lambda side: 100 * side.utilisation, ".1f"),
        ("matmul peak, TFLOP/s", lambda side: side.matmul_flops_per_second / 1e12, ".2f"),
    ]
    for name, value, style in rows:
        print(f"{name:28}{value(plain):>12{style}}{value(lean):>12{style}}{value(lean) / value(plain):>12.3f}")
    difference = max(abs(a - b) / abs(a) for a, b in zip(plain.losses, lean.losses, strict=True))
    print(f"losses of the first and last step: {plain.losses[0]:.6f} … {plain.losses[-1]:.6f} plain, ", end="")
    print(f"{lean.losses[0]:.6f} … {lean.losses[-1]:.6f} lean; largest relative difference {difference:.1e}")
    speed = lean.tokens_per_second / plain.tokens_per_second
    memory = lean.peak_bytes / plain.peak_bytes
    where = "" if device == "cuda" else " (the bounds are for a GPU)"
    print(f"speed {speed:.2f}x, bound at least {SPEED_BOUND}x{where}")
    print(f"peak memory {memory:.2f}x, bound at most {MEMORY_BOUND}x{where}")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--model", choices=sorted(SHAPES), default="pythia-160m")
    parser.add_argument("--sequence-length", type=int, default=256)
    parser.add_argument("--micro-batch-size", type=int, default=4)
    parser.add_argument("--compile", choices=["neither", "lean", "both"], default="neither")
    parser.add_argument("--attention", default="sdpa", help="attention kernels, as transformers names them")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="on both sides")
    parser.add_argument("--chunk-megabytes", type=int, help="float32 logits of a chunk of the lean side")
    parser.add_argument("--warmup-steps", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="print the slowest kernels of one step of each side")
    parser.add_argument("--side", choices=SIDES, help="run one side in this process and print it as JSON")
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    if options.side:
        print(json.dumps(dataclasses.asdict(measure(options))))
        return
    measurements: dict[str, list[Measurement]] = {side: [] for side in SIDES}
    for round_number in range(options.rounds):
        for side in SIDES if round_number % 2 == 0 else SIDES[::-1]:
            measurement = run_side(side, sys.argv[1:])
            measurements[side].append(measurement)
            print(
                f"round {round_number + 1} {side}: {measurement.tokens_per_second:,.1f} tokens per second, "
                f"peak {measurement.peak_bytes / 2**30:.2f} GiB",
                file=sys.stderr,
            )
    show(median_of(measurements["plain"]), median_of(measurements["lean"]), options.device)


if __name__ == "__main__":
    main()
