"""Every subset of a pair's blocks scored as one tree, against each subset's model run by itself: one run.

Both sides are in memory and score the same batch; the plain side composes each model, runs it whole, and compares it
with the teacher's logits, which it keeps. Counts block passes, too: 2^(n+1) for the tree, n * 2^n for the models.

    python benchmarks/exact.py
    python benchmarks/exact.py --blocks 9
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.nn import functional as F
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from boomerang_cli.engine.evaluation.orders import Blocks, every_subset
from boomerang_cli.engine.evaluation.scoring import Scorer
from boomerang_cli.engine.evaluation.variants import Variant
from boomerang_cli.engine.evaluation.windows import Windows
from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.models.compose import LoadedPair, compose, load_pair
from boomerang_cli.engine.pair.pair import open_pair

BOUND = 1.1  # SPEC.md: about 2^(n+1) block passes
WINDOWS, LENGTH, VOCABULARY, HIDDEN = 4, 64, 512, 128

Distances = dict[Blocks, float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=7, help="n, each of two layers")
    n = parser.parse_args().blocks
    with tempfile.TemporaryDirectory() as folder:
        loaded = _make_pair(Path(folder), n)
        tokens = torch.randint(VOCABULARY, (WINDOWS, LENGTH + 1), generator=torch.Generator().manual_seed(0))
        windows = Windows(tokens[:, :-1], tokens[:, 1:])
        subsets = every_subset(loaded.pair.layer_map.patchable)
        tree_seconds, tree, passes = _as_tree(loaded, windows, subsets)
        plain_seconds, plain = _one_by_one(loaded, windows, subsets)
    difference = max(abs(tree[each] - plain[each]) / max(plain[each], 1e-3) for each in subsets)
    print(f"{len(subsets)} subsets of {n} blocks, {WINDOWS * LENGTH} tokens")
    print(f"tree        {tree_seconds:7.2f} s  {passes:6} block passes, {passes / 2 ** (n + 1):.2f} of 2^(n+1)")
    print(f"one by one  {plain_seconds:7.2f} s  {n * 2**n:6} block passes")
    print(f"ratio of time {tree_seconds / plain_seconds:.2f}; largest relative difference of a KL: {difference:.1e}")
    return 0 if passes <= BOUND * 2 ** (n + 1) and difference < 1e-3 else 1


def _make_pair(folder: Path, blocks: int) -> LoadedPair:
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        hidden_size=HIDDEN,
        num_hidden_layers=2 * blocks,
        num_attention_heads=4,
        intermediate_size=4 * HIDDEN,
        vocab_size=VOCABULARY,
        initializer_range=0.1,
    )
    GPTNeoXForCausalLM(config).save_pretrained(folder / "teacher")
    init_student(folder / "teacher", output=folder / "student", keep=range(0, 2 * blocks, 2))
    return load_pair(open_pair(folder / "student"), dtype=torch.float32)


def _as_tree(loaded: LoadedPair, windows: Windows, subsets: list[Blocks]) -> tuple[float, Distances, int]:
    started = time.monotonic()
    scorer = Scorer(loaded)
    sums = scorer.score([Variant(each) for each in subsets], windows, range(WINDOWS))
    found = {variant.blocks: sum(each.kl for each in one) / (WINDOWS * LENGTH) for variant, one in sums.items()}
    return time.monotonic() - started, found, scorer.stages.block_passes


@torch.inference_mode()
def _one_by_one(loaded: LoadedPair, windows: Windows, subsets: list[Blocks]) -> tuple[float, Distances]:
    expected = F.log_softmax(loaded.models["teacher"](windows.input_ids, use_cache=False).logits, -1).flatten(0, 1)
    found: Distances = {}
    seconds = 0.0
    for blocks in subsets:
        model = compose(loaded, loaded.pair.layer_map.sources(blocks))
        started = time.monotonic()  # making the modules is not counted
        logits = F.log_softmax(model(windows.input_ids, use_cache=False).logits, -1).flatten(0, 1)
        found[blocks] = F.kl_div(logits, expected, reduction="batchmean", log_target=True).item()
        seconds += time.monotonic() - started
    return seconds, found


if __name__ == "__main__":
    sys.exit(main())
