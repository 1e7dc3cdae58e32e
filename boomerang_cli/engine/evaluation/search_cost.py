"""What it takes to score all sets of a pair's blocks: time and memory, measured on a few of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from boomerang_cli.engine.distillation.device import free_memory_bytes
from boomerang_cli.engine.distillation.step_memory import rise_of
from boomerang_cli.engine.errors import ScoringError
from boomerang_cli.engine.evaluation.orders import Blocks, every_subset
from boomerang_cli.engine.evaluation.scoring import GATHERED_BYTES, GATHERED_MODELS, Scorer
from boomerang_cli.engine.evaluation.set_tree import SetTree
from boomerang_cli.engine.evaluation.variants import Variant
from boomerang_cli.engine.evaluation.windows import Windows
from boomerang_cli.engine.processes.group import local_processes

_FEW, _MANY = 2, 5
"""All sets of so many of the last blocks are scored; what more sets take is what a set takes in a large tree."""
_USABLE_SHARE = {"cuda": 0.9, "cpu": 0.5}
"""Of free memory; the rest is for fragments and for kernels' workspaces, which are not counted."""


@dataclass(frozen=True)
class SearchCost:
    """The most that a search of all sets takes: sets that are given up early take less.

    Attributes:
        windows_at_once: that fit.
        seconds: on this device.
        bytes: of memory, beside both models.
    """

    windows_at_once: int
    seconds: float
    bytes: int


def fit_search(scorer: Scorer, tree: SetTree, windows: Windows) -> SearchCost:
    """Measure a few sets, and have the scorer take as many windows at once as fit.

    Raises:
        ScoringError: a single window does not fit.
    """
    memory, table = _Memory.of(scorer, tree, windows), 8 * 2 ** len(tree.blocks)
    sharing = 1 if scorer.device.type == "cuda" else local_processes()
    free = int(free_memory_bytes(scorer.device) * _USABLE_SHARE.get(scorer.device.type, 0.5)) // sharing - table
    planned = len(next(iter(scorer.batches(windows))))
    at_once = next((count for count in range(planned, 0, -1) if memory.bytes(count) <= free), 0)
    if not at_once:
        raise ScoringError(
            f"a search takes {memory.bytes(1) / 2**30:.1f} GiB for one window of {windows.input_ids.shape[1]} tokens, "
            f"and {scorer.device} has {max(0, free) / 2**30:.1f} GiB to spare: give a shorter --sequence-length, or "
            "--dtype bfloat16"
        )
    if at_once < planned:
        scorer.batch_size = at_once
    return SearchCost(at_once, _seconds(scorer, tree, windows), memory.bytes(at_once) + table)


@dataclass(frozen=True)
class _Memory:
    """What is held while a subtree is scored, beside both models.

    Attributes:
        fixed: whatever the number of windows: a chunk of logits.
        window: for each window, with the sets of a few blocks: embeddings, masks, a layer at work.
        hidden: one window's hidden states.
        live: hidden states of a branch that the few blocks do not hold: the tree forks once a block, and each fork
            keeps what enters it.
    """

    fixed: int
    window: int
    hidden: int
    live: int

    @classmethod
    def of(cls, scorer: Scorer, tree: SetTree, windows: Windows) -> _Memory:
        sets = _sets_of_last(tree, _FEW)
        one, two = (_rise(scorer, sets, windows, count) for count in (1, 2))
        hidden = windows.input_ids.shape[1] * scorer.hidden_bytes
        live = max(0, min(len(tree.blocks), tree.subtree_blocks) - _FEW)
        return cls(max(0, 2 * one - two), max(two - one, hidden), hidden, live)

    def bytes(self, windows: int) -> int:
        gathered = min(GATHERED_MODELS * self.hidden * windows, GATHERED_BYTES + self.hidden * windows)
        return self.fixed + (self.window + self.live * self.hidden) * windows + gathered


def _rise(scorer: Scorer, sets: Sequence[Blocks], windows: Windows, count: int) -> int:
    """Return how far memory rises while sets are scored on so many windows; the first stands for each of them."""
    rows = torch.zeros(count, dtype=torch.int64)
    repeated = Windows(windows.input_ids[rows], windows.labels[rows])
    variants = [Variant(each) for each in sets]

    def score() -> None:
        scorer.score(variants, repeated, range(count), kl_alone=True)

    return rise_of(score, ())


def _seconds(scorer: Scorer, tree: SetTree, windows: Windows) -> float:
    rows = next(iter(scorer.batches(windows)))

    def timed(sets: Sequence[Blocks]) -> float:
        started = time.monotonic()
        scorer.score([Variant(each) for each in sets], windows, rows, kl_alone=True)
        return time.monotonic() - started

    few, many = _sets_of_last(tree, _FEW), _sets_of_last(tree, _MANY)
    short, long = timed(few), timed(many)
    a_set = max(0.0, long - short) / max(1, len(many) - len(few))
    batch = len(tree.roots) * (short + a_set * (tree.sets_below - len(few)))
    return batch * len(windows) / len(rows)


def _sets_of_last(tree: SetTree, blocks: int) -> list[Blocks]:
    return every_subset(tree.blocks[-blocks:])
