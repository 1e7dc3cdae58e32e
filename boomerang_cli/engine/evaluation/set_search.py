"""The distances of all sets of blocks, as far as they are needed: subtree after subtree, window after window.

A set is given up as soon as it can win no more. Its distance is a mean over tokens of KL(teacher || model), and none of
these is negative (Gibbs' inequality), so what the windows so far sum up to is a bound that more windows only raise:
nothing is assumed, and no set that is needed is ever lost. There is no such bound within one window: the layers behind
a block may undo whatever the blocks before it did, so a branch of the tree can be cut only where all of its sets are
given up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from boomerang_cli.engine.evaluation.orders import Blocks
from boomerang_cli.engine.evaluation.set_tree import SetDistances, SetTree
from boomerang_cli.engine.evaluation.windows import Windows

ROUNDING = 1e-5
"""Nats a token: float32 log-probabilities can make a divergence that is zero negative, by less than this."""

Told = Callable[[int, int], None]
"""Called with how many windows of how many sets are done, and all there are."""


class ScoresSets(Protocol):
    """What of an ``Evaluation`` a search needs."""

    def batches(self, windows: Windows) -> Iterable[range]: ...

    def divergences(self, sets: Sequence[Blocks], windows: Windows, rows: range) -> Mapping[Blocks, list[float]]:
        """Return the KL of each set's model from the teacher, summed over the tokens of each window in ``rows``."""

    def recall(self, key: str) -> Mapping[str, str]: ...

    def remember(self, key: str, values: Mapping[str, str]) -> None: ...


class SetSearch:
    """Finds the distances of sets on some windows, and keeps what it found of each subtree once all of it is known.

    Attributes:
        found: what is known so far; distances that are known from elsewhere may be added.
    """

    def __init__(self, tree: SetTree, evaluation: ScoresSets, windows: Windows) -> None:
        self.tree, self.found = tree, SetDistances(tree)
        self._evaluation, self._windows = evaluation, windows
        self._tokens = sum(windows.tokens)
        self._key = f"sets {windows.digest} {tree.subtree_blocks}"
        for root, text in evaluation.recall(self._key).items():
            self.found.read(int(root), text)

    @property
    def is_done(self) -> bool:
        """Tell whether something is known of every set."""
        return all(self.found.is_known(root) for root in self.tree.roots)

    def search(self, roots: Iterable[int], slack: float, tell: Told = lambda done, total: None) -> None:
        """Find the distance of each set below ``roots`` that may be within reach of the closest of its size.

        In which order subtrees are searched, and where, changes what is given up early, and no distance.

        Args:
            slack: how much farther from the teacher than the closest known set of its size a set may be, in nats a
                token: 0 is enough for ``exact``, infinity wants all distances.
        """
        roots = [root for root in roots if self._wanted(root, slack)]
        work = self.tree.sets_below * len(self._windows)
        for index, root in enumerate(roots):

            def tell_more(windows: int, before: int = index * work) -> None:
                tell(before + windows * self.tree.sets_below, len(roots) * work)

            self.keep(root, self.searched(root, slack, tell_more))

    def searched(self, root: int, slack: float, tell: Callable[[int], None] = lambda windows: None) -> str:
        """Search one subtree, and return what is known of it then."""
        tell(0)
        sums: dict[Blocks, list[float]] = {each: [] for each in self._wanted(root, slack)}
        for rows in self._evaluation.batches(self._windows):
            for blocks, windows in self._evaluation.divergences(list(sums), self._windows, rows).items():
                sums[blocks] += windows
            if rows.stop < len(self._windows):
                sums = self._within(sums, slack)
            tell(rows.stop)
            if not sums:
                break
        for blocks, windows in sums.items():
            self.found.add(blocks, math.fsum(windows) / self._tokens)
        return self.found.as_text(root)

    def keep(self, root: int, text: str) -> None:
        """Take in, and keep in the journal, what is known of a subtree, here or elsewhere."""
        self.found.read(root, text)
        self._evaluation.remember(self._key, {str(root): text})

    def _wanted(self, root: int, slack: float) -> list[Blocks]:
        """Return the sets of a subtree whose distances are not known and may be within reach."""
        unknown = (each for each in self.tree.sets(root) if math.isinf(self.found[each]))
        return [each for each in unknown if self._is_within(each, self.found.bound(each), slack)]

    def _is_within(self, blocks: Blocks, bound: float, slack: float) -> bool:
        return bound <= self.found.closest[len(blocks)] + slack + ROUNDING

    def _within(self, sums: dict[Blocks, list[float]], slack: float) -> dict[Blocks, list[float]]:
        """Return what may still be within reach; of the rest, note how far away it is at least."""
        kept = {}
        for blocks, windows in sums.items():
            bound = math.fsum(windows) / self._tokens
            if self._is_within(blocks, bound, slack):
                kept[blocks] = windows
            else:
                self.found.add_bound(blocks, bound)
        return kept
