"""The versions of what made a model, read where pip records them: nothing is imported for it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

from boomerang_cli.version import __version__

_LIBRARIES = ("torch", "transformers", "safetensors", "huggingface_hub")
_RECORD = re.compile(rf"({'|'.join(_LIBRARIES)})-([^-]+)\.dist-info")
"""The folder beside an installed library: its name, and its version."""


def versions() -> dict[str, str]:
    """Return the versions of boomerang, Python and the libraries that are installed."""
    recorded = dict(_recorded())
    found = {name: recorded.get(name) or _version_from_metadata(name) for name in _LIBRARIES}
    python = ".".join(map(str, sys.version_info[:3]))
    return {"boomerang": __version__, "python": python, **{name: each for name, each in found.items() if each}}


def _recorded() -> Iterator[tuple[str, str]]:
    """Yield names and versions as the folders' names tell them; of two, that which Python finds first comes last."""
    for place in reversed(sys.path):
        try:
            names = os.listdir(place or os.curdir)  # noqa: PTH208  (no object for each of some hundred names)
        except OSError:  # an archive, or not there
            continue
        yield from (match.groups() for name in names if (match := _RECORD.fullmatch(name)))  # type: ignore[misc]


def _version_from_metadata(library: str) -> str | None:
    """Return a version that no folder's name tells; the standard library's parser takes longest to import."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(library)
    except PackageNotFoundError:
        return None
