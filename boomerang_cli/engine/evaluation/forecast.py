"""How well a weight delta will do, told before it is used: by another student that was distilled from the teacher.

The delta of the one student and the other student's own delta are compared as vectors (arXiv 2608.22854, Table 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from operator import add

import numpy as np

from boomerang_cli.engine.checkpoint.dtypes import read_numbers
from boomerang_cli.engine.checkpoint.families import Family
from boomerang_cli.engine.checkpoint.files import File
from boomerang_cli.engine.checkpoint.parts import Parts
from boomerang_cli.engine.checkpoint.same_bytes import reader_of
from boomerang_cli.engine.checkpoint.tensors import DTYPE_BYTES, Tensor
from boomerang_cli.engine.output.delta_plan import DeltaTensors, kept_of
from boomerang_cli.engine.pair.delta import Delta

PUBLISHED_FORECASTS: Mapping[str, tuple[float, float]] = {
    "Qwen/Qwen3-4B-Instruct-2507": (0.73, 1.00),
    "Qwen/Qwen3-4B-Thinking-2507": (0.57, 0.92),
    "Qwen/Qwen3-4B": (0.75, 1.00),
    "Qwen/Qwen3-14B": (0.75, 1.00),
    "allenai/Olmo-3-7B-Instruct": (0.73, 1.02),
    "allenai/Olmo-3-7B-Think": (0.64, 0.94),
    "meta-llama/Llama-3.1-8B-Instruct": (0.30, 0.95),
}
"""Cosine and norm ratio by the post-trained teacher (arXiv 2608.22854, Table 5)."""

GROUPS = ("embedding", "attention", "mlp", "norms", "head", "other")
_PARTS_OF_NAMES = (
    ("norms", ("norm", "ln_", ".ln")),
    ("attention", ("attn", "attention")),
    ("mlp", ("mlp", "feed_forward", "experts", "sparse_moe", "router", "fc1", "fc2", "ffn", "dense")),
)
"""What a tensor of a layer belongs to, by a part of its name; the first that is found counts."""

_PIECE_VALUES = 2**20
_BLOCK_VALUES = 2**15
_THREADS = 4


@dataclass(frozen=True)
class Agreement:
    """How alike two deltas are.

    Attributes:
        cosine: of the angle between them; None where one of them is zero.
        norm_ratio: the norm of the other student's own delta over that of the delta; None where this is zero.
    """

    cosine: float | None
    norm_ratio: float | None
    parameters: int


@dataclass(frozen=True)
class Forecast:
    """The delta of a student of another teacher against a student's own, in all and by group of tensors.

    Attributes:
        published: cosine and norm ratio of the paper's models, by the post-trained teacher.
    """

    total: Agreement
    groups: Mapping[str, Agreement]
    published: Mapping[str, tuple[float, float]]


def forecast(
    delta: Delta, teacher: Parts, other: Parts, *, on_progress: Callable[[int, int], None] | None = None
) -> Forecast:
    """Compare ``student - init(base)`` with ``other - init(teacher)``, in one pass over the bytes of all four.

    Differences, products and sums are float64. Of tied models the one matrix counts once, as the embedding.

    Args:
        teacher, other: the post-trained teacher, and a student that was distilled from it.
        on_progress: called with the bytes compared so far, and all bytes to compare.

    Raises:
        CheckpointError: a file that cannot be read.
        HubError: the Hub refuses or fails.
    """
    family, tensors, own = delta.pair.family, DeltaTensors.of(delta), kept_of(teacher, delta)
    if not all(parts.tied for parts in (teacher, other, *delta.pair.parts.values())):
        own = own.untied(family)
    others = other.untied(family).named(family)
    fours = {
        name: (tensors.changed[name], tensors.base[name], others[name], tensor)
        for name, tensor in own.named(family).items()
        if tensor.is_float
    }
    total, done = sum(tensor.size_bytes for four in fours.values() for tensor in four), 0
    found: dict[str, _Products] = dict.fromkeys(GROUPS, _Products())
    with ThreadPoolExecutor(_THREADS) as pool:
        read = _Reader()
        for name, four in fours.items():
            found[group_of(name, family)] += _products(four, read, pool)
            done += sum(tensor.size_bytes for tensor in four)
            if on_progress:
                on_progress(done, total)
    groups = {group: products.agreement() for group, products in found.items() if products.parameters}
    return Forecast(sum(found.values(), _Products()).agreement(), groups, PUBLISHED_FORECASTS)


def group_of(name: str, family: Family) -> str:
    """Return the group of a tensor, by its name in the output."""
    if name == family.head:
        return "head"
    if name.startswith(family.before):
        return "embedding"
    inside = name.removeprefix(family.layers).lower()
    found = next((group for group, parts in _PARTS_OF_NAMES if any(part in inside for part in parts)), "other")
    return found if name.startswith(family.layers) or found == "norms" else "other"


@dataclass(frozen=True)
class _Products:
    """Sums over numbers: of both deltas' products, and of the squares of each."""

    both: float = 0.0
    ours: float = 0.0
    others: float = 0.0
    parameters: int = 0

    def __add__(self, more: _Products) -> _Products:
        return _Products(*map(add, astuple(self), astuple(more)))

    def agreement(self) -> Agreement:
        norms = math.sqrt(self.ours), math.sqrt(self.others)
        cosine = self.both / (norms[0] * norms[1]) if all(norms) else None
        return Agreement(cosine, norms[1] / norms[0] if norms[0] else None, self.parameters)


class _Reader:
    """Reads tensors' numbers; one reader a file, which knows where on the Hub its bytes lie."""

    def __init__(self) -> None:
        self._readers: dict[File, Callable[[int, int], bytes | bytearray]] = {}

    def open(self, file: File) -> None:
        if file not in self._readers:
            self._readers[file] = reader_of(file)

    def numbers(self, tensor: Tensor, first: int, last: int) -> np.ndarray:
        width = DTYPE_BYTES[tensor.dtype]
        data = self._readers[tensor.file](tensor.start + first * width, tensor.start + last * width)
        return read_numbers(memoryview(data), tensor.dtype)


def _products(four: Sequence[Tensor], read: _Reader, pool: ThreadPoolExecutor) -> _Products:
    """Return the sums over four tensors: changed, base, the other student's, the teacher's."""
    for tensor in four:
        read.open(tensor.file)
    count = four[0].parameters

    def of_piece(first: int) -> _Products:
        last = min(first + _PIECE_VALUES, count)
        return _products_of([read.numbers(tensor, first, last) for tensor in four])

    return sum(pool.map(of_piece, range(0, count, _PIECE_VALUES)), _Products())


def _products_of(pieces: Sequence[np.ndarray]) -> _Products:
    found = _Products()
    for first in range(0, len(pieces[0]), _BLOCK_VALUES):
        changed, base, other, own = (piece[first : first + _BLOCK_VALUES].astype(np.float64) for piece in pieces)
        changed -= base
        other -= own
        found += _Products(float(changed @ other), float(changed @ changed), float(other @ other), len(changed))
    return found
