"""Bold and colour, where a terminal shows them and nobody asked for plain text."""

from __future__ import annotations

import os
from typing import TextIO

# Okabe and Ito's colours, as near as 256 colours come: the picture's, and readable on dark and light.
_COLOURS = (32, 166, 36, 175, 214, 74)
_FAINT = 245


class Style:
    """Writes text for one stream.

    Args:
        plain: leave text as it is.
    """

    def __init__(self, *, plain: bool = True) -> None:
        self._plain = plain

    @classmethod
    def of(cls, stream: TextIO) -> Style:
        """Return the style of a stream: ``NO_COLOR`` makes any plain, ``FORCE_COLOR`` one that is no terminal coloured.

        Both count where they are not empty (no-color.org, force-color.org).
        """
        if os.environ.get("NO_COLOR"):
            return cls(plain=True)
        if os.environ.get("FORCE_COLOR"):
            return cls(plain=False)
        return cls(plain=not stream.isatty() or os.environ.get("TERM") == "dumb")

    def bold(self, text: str) -> str:
        return self._written(text, "1")

    def faint(self, text: str) -> str:
        return self._written(text, f"38;5;{_FAINT}")

    def coloured(self, text: str, number: int) -> str:
        """Return text in the colour of the order of this number, from 0."""
        return self._written(text, f"38;5;{_COLOURS[number % len(_COLOURS)]}")

    def _written(self, text: str, codes: str) -> str:
        return text if self._plain or not text else f"\x1b[{codes}m{text}\x1b[0m"


PLAIN = Style()
