"""Who named what the user did not type, a variable or a file, for the errors about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from boomerang_cli.engine.errors import BoomerangError


@dataclass(frozen=True)
class Named:
    """A model argument.

    Attributes:
        origin: who named it, and which flag names another; None if the user typed it.
    """

    model: str | Path
    origin: str | None = None


@contextmanager
def told(*origins: str | None) -> Iterator[None]:
    """Add to an error who named the things that it is about; those that were typed (None) need no word."""
    try:
        yield
    except BoomerangError as error:
        known = "; ".join(origin for origin in origins if origin)
        if not known:
            raise
        raise type(error)(f"{error} ({known})", usage=error.usage) from None
