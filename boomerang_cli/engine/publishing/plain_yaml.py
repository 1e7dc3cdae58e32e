"""YAML of plain words, as in a model card's metadata, without the library that knows all the rest.

PyYAML takes longer to import than a small model to be written. It is asked where a word may need quotes, or may be more
than a word: then, and then alone, the rules of YAML matter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_WORD = re.compile(r"[A-Za-z][\w/-]*(?:\.[\w/-]+)*", re.ASCII)
_LONGEST = 100
_NO_STRINGS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
"""Words that YAML takes for something else."""


def dump(content: Mapping[str, str | Sequence[str]]) -> str:
    """Return exactly what PyYAML writes for such a mapping, its keys in their order."""
    lists = [[each] if isinstance(each, str) else each for each in content.values()]
    if not all(values and all(map(_is_plain, values)) for values in (list(content), *lists)):
        import yaml

        return str(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True))
    return "".join(
        f"{key}: {value}\n" if isinstance(value, str) else f"{key}:\n" + "".join(f"- {each}\n" for each in value)
        for key, value in content.items()
    )


def load(lines: Sequence[str]) -> Any:
    """Return what PyYAML reads in lines of ``key: value``; None where they are no YAML."""
    pairs = [line.split(": ") for line in lines]
    if all(len(pair) == 2 and all(map(_is_plain, pair)) for pair in pairs):
        return dict(pairs) or None
    import yaml

    try:
        return yaml.safe_load("\n".join(lines))
    except (yaml.YAMLError, ValueError):  # an impossible date is a ValueError
        return None


def _is_plain(word: Any) -> bool:
    short = isinstance(word, str) and len(word) < _LONGEST  # longer, a key would be written otherwise
    return short and _WORD.fullmatch(word) is not None and word.lower() not in _NO_STRINGS
