"""What is known of a sweep's models, in memory: values under keys, the same in every process of the sweep."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Values = dict[str, dict[str, Any]]


class Record:
    """Values by key; those of one key are merged.

    Attributes:
        folder: the sweep's.
    """

    def __init__(self, folder: Path, values: Mapping[str, dict[str, Any]]) -> None:
        self.folder = folder
        self._values: Values = defaultdict(dict, values)

    def get(self, key: str) -> Mapping[str, Any]:
        """Return what is known under a key."""
        return self._values[key]

    def add(self, key: str, values: Mapping[str, Any]) -> None:
        """Keep what was found out."""
        self._values[key].update(values)

    def keep_file(self, name: str, content: bytes) -> None:
        """Keep a file of the folder, which rank 0 alone writes."""

    @property
    def values(self) -> Values:
        """All that is known."""
        return dict(self._values)
