"""Floating-point dtypes: their names in safetensors files and in configurations, and conversion of bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boomerang_cli.engine.errors import OutputError, SelectionError

if TYPE_CHECKING:
    import numpy as np

DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""What ``--dtype`` takes, and the name of each in safetensors files."""
CONFIG_NAMES = {**{stored: name for name, stored in DTYPES.items()}, "F64": "float64"}


def stored_dtype(dtype: str) -> str | None:
    """Return the safetensors name of what ``--dtype`` names; None for ``auto``.

    Raises:
        SelectionError: an unknown dtype.
    """
    if dtype == "auto":
        return None
    if dtype not in DTYPES:
        raise SelectionError(f"--dtype {dtype} is unknown: give auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def convert(data: memoryview, source: str, target: str, name: str) -> memoryview:
    """Convert the little-endian bytes of floating-point numbers, rounding to nearest even.

    Args:
        source, target: safetensors names, ``F64 F32 F16 BF16``.
        name: the tensor's, for the error.

    Raises:
        OutputError: a finite value is too large for float16.
    """
    import numpy as np

    values = np.frombuffer(data, dtype=_numpy_dtype(source))
    with np.errstate(over="ignore", invalid="ignore"):
        converted = values.astype(_numpy_dtype(target))
    if target == "F16" and _overflowed(values, converted):
        raise OutputError(f"{name} holds values beyond float16's largest, 65504: give --dtype bfloat16 or float32")
    return converted.view(np.uint8).data


def _overflowed(values: np.ndarray, converted: np.ndarray) -> bool:
    """Tell whether a finite number became an infinite float16."""
    import numpy as np

    # np.isinf takes longer than the conversion: nearly always the largest exponent shows that all are finite.
    if (converted.view(np.uint16) << 1).max(initial=0) < 0xF800:
        return False
    return bool(np.isinf(converted).sum() > np.isinf(values).sum())


def _numpy_dtype(stored: str) -> np.dtype:
    import ml_dtypes
    import numpy as np

    numpy_dtype: np.dtype = np.dtype({"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16}[stored])
    return numpy_dtype
