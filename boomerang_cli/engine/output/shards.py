"""The files of weights of an output: which tensors each holds, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from boomerang_cli.engine.checkpoint.dtypes import convert
from boomerang_cli.engine.checkpoint.tensors import DTYPE_BYTES, Tensor
from boomerang_cli.engine.checkpoint.weights import SINGLE_FILE
from boomerang_cli.engine.output.difference import Difference
from boomerang_cli.engine.pair.layers import Owner


@dataclass(frozen=True, slots=True)
class Copy:
    """One tensor of the output: its name and dtype there, the tensor that it is, and what is added to that."""

    name: str
    owner: Owner
    source: Tensor
    dtype: str
    added: Difference | None = None

    @property
    def converts(self) -> bool:
        return self.dtype != self.source.dtype

    @property
    def computes(self) -> bool:
        """Whether its bytes are others than its source's."""
        return self.added is not None or self.converts

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors that it is made of, all of one shape."""
        return (self.source, self.added.changed, self.added.base) if self.added else (self.source,)

    def compute(self, *pieces: memoryview) -> memoryview:
        """Return a piece of its bytes, given the same numbers' bytes of each of its inputs.

        Raises:
            OutputError: a value that its dtype cannot hold, or that is not finite where three tensors are summed.
        """
        if self.added is None:
            return convert(pieces[0], self.source.dtype, self.dtype, self.source.name)
        return self.added.add(pieces, self.source.dtype, self.dtype, self.name)

    @property
    def size_bytes(self) -> int:
        return prod(self.source.shape) * DTYPE_BYTES[self.dtype]

    def follows(self, before: Copy) -> bool:
        """Tell whether the bytes of both lie side by side in their source, so that one copy moves them."""
        near = self.source.file == before.source.file and self.source.start == before.source.stop
        return near and not self.computes and not before.computes


@dataclass(frozen=True)
class Shard:
    """One safetensors file of the output: its tensors in the order of their bytes.

    Attributes:
        offset_in_block: where in a disk block the tensors start, so that blocks can be shared; None does not matter.
    """

    file: str
    copies: tuple[Copy, ...]
    offset_in_block: int | None = None

    @property
    def size_bytes(self) -> int:
        return sum(copy.size_bytes for copy in self.copies)

    @property
    def runs(self) -> tuple[tuple[Copy, ...], ...]:
        """Tensors that lie side by side in their source, together."""
        runs: list[list[Copy]] = []
        for copy in self.copies:
            if runs and copy.follows(runs[-1][-1]):
                runs[-1].append(copy)
            else:
                runs.append([copy])
        return tuple(map(tuple, runs))


def lay_out(copies: Sequence[Copy], max_shard_bytes: int) -> tuple[Shard, ...]:
    """Put tensors into files in the order of the source files' bytes, so that runs are as long as possible.

    Tensors of wide dtypes come first, as the libraries write them: readers need each aligned to its dtype.
    """
    ordered = sorted(
        copies,
        key=lambda copy: (
            -DTYPE_BYTES[copy.dtype],
            copy.owner == "teacher",
            str(copy.source.file),
            copy.source.start,
            copy.name,
        ),
    )
    shards: list[list[Copy]] = [[]]
    size = 0
    for copy in ordered:
        if shards[-1] and size + copy.size_bytes > max_shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(copy)
        size += copy.size_bytes
    return tuple(Shard(name, tuple(shard)) for name, shard in zip(shard_names(len(shards)), shards, strict=True))


def shard_names(count: int) -> list[str]:
    """Return the names of so many files of weights, as transformers calls them."""
    if count == 1:
        return [SINGLE_FILE]
    return [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
