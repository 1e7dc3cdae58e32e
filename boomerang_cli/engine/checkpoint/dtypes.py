"""Floating-point dtypes: their names in safetensors files and in configurations, and conversion of bytes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from boomerang_cli.engine.errors import OutputError, SelectionError

if TYPE_CHECKING:
    import numpy as np

DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""What ``--dtype`` takes, and the name of each in safetensors files."""
_EXPONENTS = {"F16": 0x7C00, "BF16": 0x7F80, "F32": 0x7F800000, "F64": 0x7FF << 52}
"""The bits of a number's exponent."""
CONFIG_NAMES = {**{stored: name for name, stored in DTYPES.items()}, "F64": "float64"}


def stored_dtype(dtype: str) -> str | None:
    """Return the safetensors name of what ``--dtype`` names; None for ``auto``.

    Raises:
        SelectionError: an unknown dtype.
    """
    if dtype == "auto":
        return None
    if dtype not in DTYPES:
        raise SelectionError(f"--dtype {dtype} is unknown: give auto, {', '.join(DTYPES)}", usage=True)
    return DTYPES[dtype]


def convert(data: memoryview, source: str, target: str, name: str) -> memoryview:
    """Convert the little-endian bytes of floating-point numbers, rounding to nearest even.

    The result stands until this thread converts or adds again (see :class:`Workspace`).

    Args:
        source, target: safetensors names, ``F64 F32 F16 BF16``.
        name: the tensor's, for the error.

    Raises:
        OutputError: a finite value is too large for float16.
    """
    import numpy as np

    values = read_numbers(data, source)
    converted = WORKSPACE.array("result", target, len(values))
    with np.errstate(over="ignore", invalid="ignore"):
        converted[:] = values
    if target == "F16" and _overflowed(values, converted):
        raise OutputError(f"{name} holds values beyond float16's largest, 65504: give --dtype bfloat16 or float32")
    return converted.view(np.uint8).data


def read_numbers(data: memoryview, stored: str) -> np.ndarray:
    """Return little-endian bytes as numbers of a dtype, by its safetensors name; nothing is copied."""
    import numpy as np

    return np.frombuffer(data, dtype=as_numpy_dtype(stored))


def has_only_finite(values: np.ndarray, stored: str) -> bool:
    """Tell whether no number is infinite or NaN; of a dtype by its safetensors name."""
    import numpy as np

    # np.isinf and np.isnan take longer than a conversion of such dtypes: all bits of the exponent say it too.
    exponent, width = _EXPONENTS[stored], values.itemsize
    found = WORKSPACE.array("bits", f"U{8 * width}", len(values))
    np.bitwise_and(values.view(found.dtype), exponent, out=found)
    return int(found.max(initial=0)) < exponent


def _overflowed(values: np.ndarray, converted: np.ndarray) -> bool:
    """Tell whether a finite number became an infinite float16."""
    import numpy as np

    # np.isinf takes longer than the conversion: nearly always the exponents show that all are finite.
    return not has_only_finite(converted, "F16") and bool(np.isinf(converted).sum() > np.isinf(values).sum())


def as_numpy_dtype(stored: str) -> np.dtype:
    """Return numpy's dtype of a safetensors name, little-endian."""
    import ml_dtypes
    import numpy as np

    floats = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16}
    numpy_dtype: np.dtype = np.dtype(floats.get(stored) or f"<u{int(stored.removeprefix('U')) // 8}")
    return numpy_dtype


class Workspace(threading.local):
    """Memory for what is computed piece by piece, each thread's own, used again for each piece.

    New memory of a few hundred kilobytes comes from the kernel page by page, which takes several times as long as the
    arithmetic.
    """

    def __init__(self) -> None:
        self._arrays: dict[tuple[str, str], np.ndarray] = {}

    def array(self, use: str, stored: str, count: int) -> np.ndarray:
        """Return an array of so many numbers, whose content is what the last user of the same name left."""
        import numpy as np

        held = self._arrays.get((use, stored))
        if held is None or len(held) < count:
            held = self._arrays[use, stored] = np.empty(count, as_numpy_dtype(stored))
        return held[:count]


WORKSPACE = Workspace()
