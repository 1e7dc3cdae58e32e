"""What a model wrote, or a stranger, within Markdown: shown as it is, whatever it holds."""

from __future__ import annotations

import re
import unicodedata

from boomerang_cli.engine.publishing.privacy import SECRET

_UNSEEN = {*"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}
"""Marks of direction: they make a text read otherwise than it is written."""


def fenced(text: str) -> str:
    """Return a block of code that nothing in the text can end: its fence is longer than any in there.

    Within one, Markdown and HTML are shown and not obeyed; what a terminal would obey becomes an escape.
    """
    lines = re.split(r"\r\n|\r|\n", SECRET.sub("…", text))
    shown = "\n".join("".join(map(_visible, line)) for line in lines)
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{shown}\n{fence}"


def _visible(character: str) -> str:
    unseen = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _UNSEEN
    if not unseen or character == "\t":
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
