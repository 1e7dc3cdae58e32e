"""Which model of a pair a user asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from boomerang_cli.engine.errors import SelectionError


@dataclass(frozen=True)
class Selection:
    """Which model of a pair a user asked for, in exactly one of five ways.

    Attributes:
        layers: k.
        depth: the number of layers.
        params, size: the largest model with at most so many parameters, bytes: ``2B``, ``4GB``.
        blocks: the patched blocks outright.

    Raises:
        SelectionError: none of them, or more than one.
    """

    layers: int | None = None
    depth: int | None = None
    params: str | None = None
    size: str | None = None
    blocks: Sequence[int] | None = None

    def __post_init__(self) -> None:
        given = [f"--{name}" for name, value in vars(self).items() if value is not None]
        if len(given) != 1:
            what = f"{' and '.join(given)} exclude one another" if given else "no size was asked for"
            raise SelectionError(f"{what}: give one of --layers, --depth, --params, --size, --blocks")
