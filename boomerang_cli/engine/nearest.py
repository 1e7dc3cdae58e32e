"""What was meant by a word that is none of those that are known."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``: did you mean first?`` for the end of an error's line, empty where nothing known is like the word."""
    from difflib import get_close_matches

    names = list(known)
    begun = [name for name in names if word and name.startswith(word)]
    found = begun[:1] or get_close_matches(word, names, n=1)
    return f": did you mean {found[0]}?" if found else ""
