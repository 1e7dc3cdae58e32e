"""Floating-point dtypes: their names in safetensors files and in configurations, and conversion of bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boomerang_cli.engine.errors import OutputError, SelectionError

if TYPE_CHECKING:
    import numpy as np

DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""What ``--dtype`` takes, and the name of each in safetensors files."""
_EXPONENTS = {"F16": (16, 0x7C00), "BF16": (16, 0x7F80), "F32": (32, 0x7F800000), "F64": (64, 0x7FF << 52)}
"""The bits of a number, and those of its exponent."""
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

    values = read_numbers(data, source)
    with np.errstate(over="ignore", invalid="ignore"):
        converted = values.astype(as_numpy_dtype(target))
    if target == "F16" and _overflowed(values, converted):
        raise OutputError(f"{name} holds values beyond float16's largest, 65504: give --dtype bfloat16 or float32")
    return converted.view(np.uint8).data


def read_numbers(data: memoryview, stored: str) -> np.ndarray:
    """Return little-endian bytes as numbers of a dtype, by its safetensors name; nothing is copied."""
    import numpy as np

    return np.frombuffer(data, dtype=as_numpy_dtype(stored))


def has_only_finite(values: np.ndarray, stored: str) -> bool:
    """Tell whether no number is infinite or NaN; of a dtype by its safetensors name."""
    # np.isinf and np.isnan take longer than a conversion of such dtypes: all bits of the exponent say it too.
    bits, exponent = _EXPONENTS[stored]
    return not bool(((values.view(f"<u{bits // 8}") & exponent) == exponent).any())


def _overflowed(values: np.ndarray, converted: np.ndarray) -> bool:
    """Tell whether a finite number became an infinite float16."""
    import numpy as np

    # np.isinf takes longer than the conversion: nearly always the exponents show that all are finite.
    return not has_only_finite(converted, "F16") and bool(np.isinf(converted).sum() > np.isinf(values).sum())


def as_numpy_dtype(stored: str) -> np.dtype:
    """Return numpy's dtype of a safetensors name, little-endian."""
    import ml_dtypes
    import numpy as np

    numpy_dtype: np.dtype = np.dtype({"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16}[stored])
    return numpy_dtype
