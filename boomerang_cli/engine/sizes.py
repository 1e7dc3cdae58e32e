"""Sizes as people write them: ``2B`` parameters, ``4GB``, ``512MiB``, ``14 hours``."""

from __future__ import annotations

import math
import re

from boomerang_cli.engine.errors import SelectionError

_COUNTS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}
_BYTES = {"": 1, "B": 1} | {
    prefix + unit: base**power
    for power, prefix in enumerate("KMGT", start=1)
    for unit, base in (("B", 1000), ("IB", 1024))
}


def parse_count(text: str, flag: str) -> int:
    """Return a number of parameters: ``2B``, ``1.6b``, ``410M``, ``2e9``.

    Raises:
        SelectionError: anything else.
    """
    return _parse(text, flag, _COUNTS, "a number of parameters such as 2B or 410M")


def parse_bytes(text: str, flag: str) -> int:
    """Return a number of bytes: ``5GB`` (decimal, as the Hub counts), ``4GiB`` (binary), ``1000``.

    Raises:
        SelectionError: anything else.
    """
    return _parse(text, flag, _BYTES, "a size such as 4GB or 512MiB")


def _parse(text: str, flag: str, units: dict[str, int], wanted: str) -> int:
    number = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:e\+?[0-9]{1,2})?"
    match = re.fullmatch(rf"\s*({number})\s*([a-z]*)\s*", text, re.ASCII | re.IGNORECASE)
    unit = units.get(match[2].upper()) if match else None
    size = float(match[1]) * unit if match and unit else 0.0
    if not 1 <= size < math.inf:
        raise SelectionError(f"{flag} {text!r} is not {wanted}", usage=True)
    return round(size)


def show_count(parameters: int) -> str:
    """Return a number of parameters for people: ``2.84B``."""
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if parameters >= unit:
            return f"{parameters / unit:.2f}{name}"
    return str(parameters)


def show_bytes(size: int) -> str:
    """Return a number of bytes for people, decimal as on the Hub: ``5.67 GB``."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size} B"


def show_gpus(number: int) -> str:
    """Return ``1 GPU``, ``2 GPUs``."""
    return f"{number} GPU{'s' if number > 1 else ''}"


def show_duration(seconds: float) -> str:
    """Return a duration for people: ``50 minutes``, ``14 hours``."""
    for unit, name in ((86_400 * 365, "years"), (86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} seconds"
