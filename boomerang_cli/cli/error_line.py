"""Why a command failed: one line on stderr."""

from __future__ import annotations

import os
import re
import sys
import time

_SECONDS_FOR_FIRST_PROCESS = 5.0
_LONGEST_MESSAGE = 1000


def error(message: str) -> None:
    """Print one line on stderr that says why the command failed.

    Of several processes that train together the first one speaks. Another waits for the launcher to end it; if that
    does not happen, it alone has failed, and says so.
    """
    rank = os.environ.get("RANK", "0")
    if rank != "0":
        time.sleep(_SECONDS_FOR_FIRST_PROCESS)
        message = f"{message} (process {rank})"
    print(f"error: {harmless(message)}", file=sys.stderr, flush=True)


def harmless(message: str) -> str:
    """Return a message as one line of bearable length, without tokens, and without what a terminal would obey.

    Names and values in it may come from a stranger's files.
    """
    words = re.sub(r"\b(hf|api_org)_[A-Za-z0-9]{20,}", r"\1_…", " ".join(message.split()))
    line = "".join(each if each.isprintable() else _escaped(each) for each in words)
    return line if len(line) <= _LONGEST_MESSAGE else f"{line[:_LONGEST_MESSAGE]}…"


def _escaped(character: str) -> str:
    """Return ``\\x1b`` for a character; of a name that is no UTF-8, for each byte of it."""
    code = ord(character)
    return f"\\x{code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code:02x}"
