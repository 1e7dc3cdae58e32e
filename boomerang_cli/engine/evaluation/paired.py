"""Means over windows of text, and how sure differences of them are: models are scored on the same windows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class WindowSums(NamedTuple):
    """What one model scores in one window: sums over the scored tokens, the first two in nats."""

    negative_log_likelihood: float
    kl: float
    top1: float
    acceptance: float


class Mean(NamedTuple):
    """A mean over tokens, and its standard error over windows; None if there is but one window."""

    value: float
    stderr: float | None

    @property
    def is_noise(self) -> bool:
        """Whether it is no farther from 0 than its standard error; without one nothing is known to be farther."""
        return self.stderr is None or abs(self.value) <= self.stderr


def mean_of_windows(sums: Sequence[float], tokens: Sequence[int]) -> Mean:
    """Return the mean of a token, given each window's sum over so many tokens.

    It is a ratio of two sums, and its variance the usual linearised one, ``W / (W - 1) * sum((x_i - mean * t_i)^2) /
    (sum t_i)^2`` over W windows of t_i tokens (Cochran, Sampling Techniques, chapter 6). It takes windows to be
    independent of one another.
    """
    windows, total = len(tokens), sum(tokens)
    mean = math.fsum(sums) / total
    squares = math.fsum((each - mean * count) ** 2 for each, count in zip(sums, tokens, strict=True))
    return Mean(mean, None if windows == 1 else math.sqrt(squares * windows / (windows - 1)) / total)


@dataclass(frozen=True)
class PairedScores:
    """What models score, window by window.

    Attributes:
        tokens: how many each window scores.
        sums: the windows' sums, by the blocks that are patched.
    """

    tokens: tuple[int, ...]
    sums: Mapping[tuple[int, ...], Sequence[WindowSums]]

    def difference(self, measure: str, one: tuple[int, ...], other: tuple[int, ...]) -> Mean:
        """Return how much more ``one`` scores than ``other``, a token, with the standard error of that difference.

        What makes a window hard for both is in neither: on real text that is most of what windows differ in.

        Args:
            measure: ``negative_log_likelihood`` or ``kl``.
        """
        pairs = zip(self.sums[one], self.sums[other], strict=True)
        return mean_of_windows([getattr(a, measure) - getattr(b, measure) for a, b in pairs], self.tokens)
