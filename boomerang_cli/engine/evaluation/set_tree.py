"""All sets of a pair's blocks: the leaves of a binary tree, and how far each one's model is from the teacher."""

from __future__ import annotations

import base64
import math
from array import array
from dataclasses import dataclass
from functools import cached_property

from boomerang_cli.engine.evaluation.orders import Blocks

SUBTREE_BLOCKS = 10
"""A subtree varies the last so many blocks: its 1024 sets are scored together, and what is held while they are does not
grow with the number of all sets. The blocks before them are run again for each subtree, about 1 % of its passes."""

_BOUNDS = -1.0
"""A bound b is kept as -1 - b: no distance is so far below zero, which it is by rounding alone."""


@dataclass(frozen=True)
class SetTree:
    """All sets of ``blocks``, numbered: the first block is the highest bit, so a subtree's sets follow one another.

    Attributes:
        blocks: ascending.
        subtree_blocks: how many of the last ones a subtree varies.
    """

    blocks: Blocks
    subtree_blocks: int = SUBTREE_BLOCKS

    @property
    def roots(self) -> range:
        """The subtrees, each the sets that share a choice among the first blocks; any of them may be scored alone."""
        return range(2 ** max(0, len(self.blocks) - self.subtree_blocks))

    @property
    def sets_below(self) -> int:
        """How many sets a subtree holds."""
        return int(2 ** min(len(self.blocks), self.subtree_blocks))

    def set_of(self, number: int) -> Blocks:
        highest = len(self.blocks) - 1
        return tuple(block for position, block in enumerate(self.blocks) if number >> (highest - position) & 1)

    def number_of(self, blocks: Blocks) -> int:
        return sum(self._bits[block] for block in blocks)

    def sets(self, root: int) -> list[Blocks]:
        """Return the sets of a subtree by their numbers."""
        return [self.set_of(number) for number in range(len(self.roots) * self.sets_below)[self.numbers(root)]]

    def numbers(self, root: int) -> slice:
        """Return where a subtree's sets stand among all."""
        return slice(root * self.sets_below, (root + 1) * self.sets_below)

    @cached_property
    def _bits(self) -> dict[int, int]:
        return {block: 1 << position for position, block in enumerate(reversed(self.blocks))}


class SetDistances:
    """What is known of each set's distance from the teacher, in nats a token: 8 bytes a set.

    A distance; or a bound that it is no less than, where no more was needed; or nothing.

    Attributes:
        closest: the smallest distance that is known of each size, 0 to n blocks; infinity where none is.
    """

    def __init__(self, tree: SetTree) -> None:
        self.tree = tree
        self.closest = [math.inf] * (len(tree.blocks) + 1)
        self._values = array("d", [math.nan]) * (len(tree.roots) * tree.sets_below)

    def __getitem__(self, blocks: Blocks) -> float:
        """Return a distance; infinity where it is not known."""
        value = self._values[self.tree.number_of(blocks)]
        return value if value > _BOUNDS else math.inf

    def bound(self, blocks: Blocks) -> float:
        """Return what the distance is no less than; minus infinity where nothing is known."""
        value = self._values[self.tree.number_of(blocks)]
        if math.isnan(value):
            return -math.inf
        return value if value > _BOUNDS else _BOUNDS - value

    def add(self, blocks: Blocks, distance: float) -> None:
        self._put(self.tree.number_of(blocks), distance)

    def add_bound(self, blocks: Blocks, bound: float) -> None:
        self._put(self.tree.number_of(blocks), _BOUNDS - max(0.0, bound))

    def is_known(self, root: int) -> bool:
        """Tell whether something is known of every set of a subtree."""
        return not any(map(math.isnan, self._values[self.tree.numbers(root)]))

    def as_text(self, root: int) -> str:
        """Return what is known of a subtree, for a journal."""
        return base64.b64encode(self._values[self.tree.numbers(root)].tobytes()).decode()

    def read(self, root: int, text: str) -> None:
        """Take what :meth:`as_text` made of a subtree, here or elsewhere."""
        numbers = range(len(self._values))[self.tree.numbers(root)]
        for number, value in zip(numbers, array("d", base64.b64decode(text)), strict=True):
            self._put(number, value)

    def _put(self, number: int, value: float) -> None:
        self._values[number] = value
        if value > _BOUNDS:
            size = number.bit_count()
            self.closest[size] = min(self.closest[size], value)
