"""What is added to a tensor to make another one: the scaled difference of two more, in float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boomerang_cli.engine.checkpoint.dtypes import WORKSPACE, has_only_finite, read_numbers
from boomerang_cli.engine.checkpoint.tensors import Tensor
from boomerang_cli.engine.errors import OutputError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Difference:
    """``scale · (changed - base)``: what training made of a tensor."""

    changed: Tensor
    base: Tensor
    scale: float

    def add(self, pieces: Sequence[memoryview], source: str, target: str, name: str) -> memoryview:
        """Return ``a + scale · (b - c)``, computed in float32 and rounded once.

        The result stands until this thread adds or converts again (see :class:`Workspace`).

        Args:
            pieces: the bytes of the same numbers of a, of ``changed``, and of ``base``.
            source, target: dtypes of a and of the result, safetensors names.
            name: the result's, for the error.

        Raises:
            OutputError: a number of the result is not finite.
        """
        import numpy as np

        dtypes = (source, self.changed.dtype, self.base.dtype)
        own, total, base = (
            self._as_float32(use, piece, dtype)
            for use, piece, dtype in zip(("own", "total", "base"), pieces, dtypes, strict=True)
        )
        rounded = WORKSPACE.array("result", target, len(total))
        with np.errstate(over="ignore", invalid="ignore"):
            total -= base
            if self.scale != 1:
                total *= np.float32(self.scale)
            total += own
            rounded[:] = total
        if not has_only_finite(rounded, target):
            raise OutputError(f"{name} {_problem(total, target)}")
        return rounded.view(np.uint8).data

    def _as_float32(self, use: str, piece: memoryview, dtype: str) -> np.ndarray:
        numbers = read_numbers(piece, dtype)
        wide = WORKSPACE.array(use, "F32", len(numbers))
        wide[:] = numbers
        return wide


def _problem(total: np.ndarray, target: str) -> str:
    import numpy as np

    if target == "F16" and np.isfinite(total).all():
        return "would hold values beyond float16's largest, 65504: give --dtype bfloat16 or float32"
    return (
        "would hold values that are not finite: one of the three models holds such values there, or their sum is too "
        "large: give a smaller --delta-scale, or other models"
    )
