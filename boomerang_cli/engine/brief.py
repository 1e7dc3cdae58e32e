"""Results that print as one line: what a person asks of them, without plans, rows and lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

_LONGEST = 4
"""Numbers of a sequence that are shown; of a longer one, and of anything made of parts, it is told how many."""


class Brief:
    """A dataclass, made with ``repr=False``, whose ``repr`` shows some of its fields; ``vars()`` has all of them."""

    brief: ClassVar[tuple[str, ...]] = ()
    """The fields that are shown, where they are neither None nor empty."""

    def __repr__(self) -> str:
        values = {name: getattr(self, name) for name in self.brief}
        shown = [f"{name}={_short(value)}" for name, value in values.items() if value not in (None, (), [], {}, "")]
        return f"{type(self).__name__}({', '.join(shown)})"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_short(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (tuple, list)):
        plain = all(isinstance(each, (int, str)) for each in value)
        return repr(value) if plain and len(value) <= _LONGEST else f"<{len(value)}>"
    return repr(str(value)) if hasattr(value, "__fspath__") else repr(value)
