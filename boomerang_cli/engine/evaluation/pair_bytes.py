"""What both models of a pair take in memory, and how many devices hold them; from headers, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from boomerang_cli.engine.output.plan import OWNERS
from boomerang_cli.engine.pair.pair import Pair

ROOM = 0.8
"""The share of a GPU's memory for weights. Hidden states and logits, whose batch shrinks to fit, take the rest."""
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def computed_dtype(name: str, device_type: str) -> str:
    """Return what ``--dtype`` means: ``auto`` is float32 on the CPU, where half precision is slow, else bfloat16."""
    if name == "auto":
        return "float32" if device_type == "cpu" else "bfloat16"
    return name


@dataclass(frozen=True)
class PairBytes:
    """What both models take in memory.

    Attributes:
        beside: all that is beside layers.
        layers: of each layer of the teacher, with the student's that stands for it.
    """

    beside: int
    layers: tuple[int, ...]

    @classmethod
    def of(cls, pair: Pair, dtype: str) -> PairBytes:
        """Count from headers; what a family keeps in float32 is counted as the rest.

        Args:
            dtype: of the computation, as :func:`computed_dtype` names it.
        """
        parts, kept = pair.parts, pair.layer_map.kept
        layers = [sum(tensor.parameters for tensor in layer.values()) for layer in parts["teacher"].layers]
        for index, layer in zip(kept, parts["student"].layers, strict=True):
            layers[index] += sum(tensor.parameters for tensor in layer.values())
        beside = sum(parts[owner].parameters for owner in OWNERS) - sum(layers)
        return cls(beside * _BYTES[dtype], tuple(each * _BYTES[dtype] for each in layers))

    @property
    def total(self) -> int:
        return self.beside + sum(self.layers)

    def places(self, devices: int) -> tuple[int, ...]:
        """Return on which of so many devices each layer stands, in order, so that all hold about as much.

        What is beside layers stands on the first.
        """
        ends = accumulate(self.layers, initial=self.beside)
        middles = (end + size / 2 for end, size in zip(ends, self.layers, strict=False))
        return tuple(min(devices - 1, int(middle * devices / self.total)) for middle in middles)

    def largest(self, devices: int) -> int:
        """Return what the fullest of so many devices holds."""
        held = [self.beside, *[0] * (devices - 1)]
        for place, size in zip(self.places(devices), self.layers, strict=True):
            held[place] += size
        return max(held)

    def devices_needed(self, memory_bytes: int, at_most: int) -> int | None:
        """Return the least number of devices of this memory that hold the pair, or None."""
        fitting = (count for count in range(1, at_most + 1) if self.largest(count) <= ROOM * memory_bytes)
        return next(fitting, None)
