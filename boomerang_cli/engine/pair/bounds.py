"""What the model that a user asks for must keep to: bounds of what it costs, and of what it scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from boomerang_cli.engine.errors import SelectionError, check_above_zero
from boomerang_cli.engine.sizes import parse_bytes, parse_count, show_bytes, show_count

WRITING_SPEED = "generated_tokens_per_second"


@dataclass(frozen=True)
class Bound:
    """One bound.

    Attributes:
        flag: as the user gave it: ``--max-kl 0.1``.
        measure: the column of the menu that it is of.
        at_most: else at least.
        quality: whether a larger model keeps it better; what a model costs is kept better by a smaller one.
        show: how a value is written for people.
    """

    flag: str
    measure: str
    limit: float
    show: Callable[[float], str]
    at_most: bool = True
    quality: bool = False

    def excess(self, value: float) -> float:
        """Return by how much a value misses the bound; 0 or less if it keeps it."""
        return value - self.limit if self.at_most else self.limit - value

    def show_excess(self, value: float) -> str:
        """Return the same for people: ``KL 0.0210 too much``."""
        return f"{self.show(self.excess(value))} too {'much' if self.at_most else 'little'}"


def read_bounds(
    *,
    params: str | None = None,
    size: str | None = None,
    memory: str | None = None,
    min_speed: float | None = None,
    max_kl: float | None = None,
    max_perplexity: float | None = None,
    min_top1: float | None = None,
) -> tuple[Bound, ...]:
    """Return what was given, costs first.

    Raises:
        SelectionError: a value that bounds nothing.
    """
    costs = [
        Bound(f"--{flag} {given}", measure, parse(given, f"--{flag}"), show)
        for flag, given, measure, parse, show in (
            ("params", params, "parameters", parse_count, lambda value: f"{show_count(int(value))} parameters"),
            ("size", size, "bytes", parse_bytes, lambda value: show_bytes(int(value))),
            ("memory", memory, "needed_bytes", parse_bytes, lambda value: show_bytes(int(value))),
        )
        if given is not None
    ]
    scores = [
        Bound(f"--{flag} {given:g}", measure, _number(given, f"--{flag}", low, high), show, at_most, quality)
        for flag, given, measure, low, high, show, at_most, quality in (
            ("min-speed", min_speed, WRITING_SPEED, 0, math.inf, _show("{:,.1f} tokens/s"), False, False),
            ("max-kl", max_kl, "kl", 0, math.inf, _show("KL {:.4f}"), True, True),
            ("max-perplexity", max_perplexity, "perplexity", 1, math.inf, _show("perplexity {:.4g}"), True, True),
            ("min-top1", min_top1, "top1", 0, 1, _show("top1 {:.4f}"), False, True),
        )
        if given is not None
    ]
    return (*costs, *scores)


def _show(template: str) -> Callable[[float], str]:
    return template.format


def _number(value: float, flag: str, low: float, high: float) -> float:
    if low <= value <= high and math.isfinite(value):
        return value
    raise SelectionError(
        f"{flag} {value:g} bounds nothing: give {f'{low} to {high}' if high == 1 else f'{low} or more'}",
        usage=True,
    )


@dataclass(frozen=True)
class Use:
    """How a model is to be run, as far as that decides its memory.

    Attributes:
        context: tokens of each sequence that are kept; None is ``output.memory.DEFAULT_CONTEXT``.
        batch: sequences at once.
        weights_bits: bits that a parameter takes once the weights are quantised; None is as they are stored.
    """

    context: int | None = None
    batch: int = 1
    weights_bits: float | None = None

    @classmethod
    def of(cls, memory: str | None, context: int | None, batch: int | None, weights_bits: float | None) -> Use | None:
        """Return the use that a user describes; None without ``memory``.

        Raises:
            SelectionError: a value that means nothing, or without ``memory``.
        """
        given = {"--context": context, "--batch": batch, "--weights-bits": weights_bits}
        if memory is None:
            if others := [flag for flag, value in given.items() if value is not None]:
                raise SelectionError(f"{others[0]} says what --memory is used for: give that, too", usage=True)
            return None
        check_above_zero(SelectionError, context=context, batch=batch, weights_bits=weights_bits)
        return cls(context, batch or 1, weights_bits)
