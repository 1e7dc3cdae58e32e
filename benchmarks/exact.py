"""Every subset of a pair's blocks scored as one tree, against each subset's model run by itself: one run.

Both sides are in memory and score the same batch; the plain side composes each model, runs it whole, and compares it
with the teacher's logits, which it keeps. Counts block passes, too: 2^(n+1) for the tree, n * 2^n for the models.

With --scale the search itself instead, as ``sweep --order exact`` runs it: all 2^17 sets of a pair of 36 layers, at a
hidden size that is tiny, on a few windows. Prints the time of a block pass, the passes done against those of the tree
(2^(n+1) - 2 a window, and more where one-layer blocks follow), the memory taken against what was told beforehand, and
how much was given up early: that depends on the pair, and the more windows there are, the more is.

    python benchmarks/exact.py
    python benchmarks/exact.py --blocks 9
    python benchmarks/exact.py --scale                # 2^17 sets: five minutes of processor time
    python benchmarks/exact.py --scale --blocks 10
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch.nn import functional as F
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from boomerang_cli.engine.distillation.device import peak_memory_bytes
from boomerang_cli.engine.evaluation.orders import Blocks, every_subset, exact, greedy
from boomerang_cli.engine.evaluation.scoring import Scorer
from boomerang_cli.engine.evaluation.search_cost import fit_search
from boomerang_cli.engine.evaluation.set_search import SetSearch
from boomerang_cli.engine.evaluation.set_tree import SetTree
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
    parser.add_argument("--blocks", type=int, help="n, each of two layers; 7, with --scale 17")
    parser.add_argument("--scale", action="store_true", help="the search of all sets, with its memory")
    parser.add_argument("--windows", type=int, default=WINDOWS)
    given = parser.parse_args()
    n = given.blocks or (17 if given.scale else 7)
    with tempfile.TemporaryDirectory() as folder:
        kept = (*range(0, 2 * n, 2), 2 * n, 2 * n + 1) if given.scale else range(0, 2 * n, 2)
        loaded = _make_pair(Path(folder), kept, 16 if given.scale else HIDDEN)
        length = 16 if given.scale else LENGTH
        tokens = torch.randint(VOCABULARY, (given.windows, length + 1), generator=torch.Generator().manual_seed(0))
        windows = Windows(tokens[:, :-1], tokens[:, 1:])
        return _search_at_scale(loaded, windows) if given.scale else _compare(loaded, windows)


def _compare(loaded: LoadedPair, windows: Windows) -> int:
    subsets = every_subset(loaded.pair.layer_map.patchable)
    n, tokens = len(loaded.pair.layer_map.patchable), windows.input_ids.numel()
    tree_seconds, tree, passes = _as_tree(loaded, windows, subsets)
    plain_seconds, plain = _one_by_one(loaded, windows, subsets)
    difference = max(abs(tree[each] - plain[each]) / max(plain[each], 1e-3) for each in subsets)
    print(f"{len(subsets)} subsets of {n} blocks, {tokens} tokens")
    print(f"tree        {tree_seconds:7.2f} s  {passes:6} block passes, {passes / 2 ** (n + 1):.2f} of 2^(n+1)")
    print(f"one by one  {plain_seconds:7.2f} s  {n * 2**n:6} block passes")
    print(f"ratio of time {tree_seconds / plain_seconds:.2f}; largest relative difference of a KL: {difference:.1e}")
    return 0 if passes <= BOUND * 2 ** (n + 1) and difference < 1e-3 else 1


class _Plain:
    """What a search needs of an evaluation, and what it asked for."""

    def __init__(self, loaded: LoadedPair) -> None:
        self.scorer = Scorer(loaded, batch_size=1)
        self.batches = self.scorer.batches
        self.scored = self.kept_bytes = 0

    def divergences(self, sets: Sequence[Blocks], windows: Windows, rows: range) -> dict[Blocks, list[float]]:
        self.scored += len(sets) * len(rows)
        found = self.scorer.score([Variant(each) for each in sets], windows, rows)
        return {variant.blocks: [window.kl for window in sums] for variant, sums in found.items()}

    def recall(self, key: str) -> dict[str, str]:
        return {}

    def remember(self, key: str, values: Mapping[str, str]) -> None:
        self.kept_bytes += sum(map(len, values.values()))


def _search_at_scale(loaded: LoadedPair, windows: Windows) -> int:
    evaluation, layer_map = _Plain(loaded), loaded.pair.layer_map
    blocks, stages = layer_map.patchable, evaluation.scorer.stages
    search = SetSearch(SetTree(blocks), evaluation, windows)
    needed = len(windows) * sum(2 ** sum(block <= place for block in blocks) for place in range(len(layer_map.blocks)))
    told = fit_search(evaluation.scorer, search.tree, windows)
    print(f"{2 ** len(blocks):,} sets of {len(blocks)} blocks on {len(windows)} windows: a tree has {needed:,} passes")
    print(f"told beforehand: {told.seconds:,.0f} s, {told.bytes / 2**20:.1f} MiB", flush=True)
    _start_greedily(search, evaluation, windows)
    stages.block_passes = evaluation.scored = 0
    memory, wall, cpu = peak_memory_bytes(), time.monotonic(), time.process_time()
    for root in search.tree.roots:
        search.keep(root, search.searched(root, slack=0.0))
        if root & (root + 1) == 0:  # now and then
            share = evaluation.scored / len(windows) / search.tree.sets_below / (root + 1)
            grown = (peak_memory_bytes() - memory) / 2**20
            micros = 1e6 * (time.process_time() - cpu) / stages.block_passes
            print(
                f"{root + 1:4} subtrees: {stages.block_passes:9,} block passes of {micros:.0f} us of CPU, "
                f"{share:.2f} of the sets and windows, {grown:.1f} MiB more",
                flush=True,
            )
    print(f"passes: {stages.block_passes / needed:.3f} of the tree's, {stages.layer_passes:,} layers")
    print(f"time: {time.monotonic() - wall:,.0f} s, {time.process_time() - cpu:,.0f} s of CPU")
    print(
        f"the journal holds {evaluation.kept_bytes:,} bytes; {[len(each) for each in exact(blocks, search.found).sets]}"
    )
    return 0


def _start_greedily(search: SetSearch, evaluation: _Plain, windows: Windows) -> None:
    def score(candidates: Sequence[Blocks]) -> dict[Blocks, float]:
        for each, sums in evaluation.divergences(candidates, windows, range(len(windows))).items():
            search.found.add(each, sum(sums) / windows.input_ids.numel())
        return {each: search.found[each] for each in candidates}

    greedy(search.tree.blocks, score)


def _make_pair(folder: Path, kept: Sequence[int], hidden_size: int) -> LoadedPair:
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        hidden_size=hidden_size,
        num_hidden_layers=kept[-1] + (1 if kept[-1] - kept[-2] == 1 else 2),
        num_attention_heads=4,
        intermediate_size=4 * hidden_size,
        vocab_size=VOCABULARY,
        initializer_range=0.1,
    )
    GPTNeoXForCausalLM(config).save_pretrained(folder / "teacher")
    init_student(folder / "teacher", output=folder / "student", keep=kept)
    return load_pair(open_pair(folder / "student"), dtype=torch.float32)


def _as_tree(loaded: LoadedPair, windows: Windows, subsets: list[Blocks]) -> tuple[float, Distances, int]:
    started = time.monotonic()
    scorer = Scorer(loaded)
    sums = scorer.score([Variant(each) for each in subsets], windows, range(len(windows)))
    found = {variant.blocks: sum(each.kl for each in one) / windows.input_ids.numel() for variant, one in sums.items()}
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
