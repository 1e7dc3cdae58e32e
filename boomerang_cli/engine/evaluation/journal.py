"""What a sweep has found out so far: a file that only grows, so that a kill costs no more than its last line."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from boomerang_cli.engine.errors import OutputError
from boomerang_cli.engine.output.output_folder import check_output
from boomerang_cli.engine.output.output_marker import MARKER_FILE, write_marker
from boomerang_cli.engine.output.system_calls import sync_name, try_lock

JOURNAL_FILE = "journal.jsonl"
_SECONDS_BETWEEN_SYNCS = 1.0
"""What was found out in a second may go with a power cut; what took longer is on the disk once it is added."""

Identity = Mapping[str, Any]
"""What all scores of one sweep have in common: pair, text, settings, versions. None: not known yet, or not needed."""


class Journal:
    """A sweep's folder, and what is known there. A context manager: the folder is locked while it is open.

    Each line holds the identity, or a value under a key. Values of one key are merged.

    Args:
        folder: made if it is not there; what another sweep left there is refused, or removed with ``overwrite``.
        identity: of this sweep.

    Raises:
        OutputError: the folder is no sweep's, another's, in use, or cannot be written.
    """

    def __init__(self, folder: Path, identity: Identity, *, overwrite: bool = False) -> None:
        self.folder, self._path = folder, folder / JOURNAL_FILE
        self._values: dict[str, dict[str, Any]] = defaultdict(dict)
        self._synced = time.monotonic()
        check_output(folder, "sweep", overwrite=overwrite, dry_run=not overwrite)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not self._path.is_file():
                self._make(overwrite)
            self._file: BinaryIO = self._path.open("a+b")
        except OSError as error:
            raise OutputError(f"{folder} cannot be written: {error.strerror}") from None
        try:
            self._lock()
            if overwrite:
                self._empty()
            self._go_on(identity)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            self._sync()

    def get(self, key: str) -> Mapping[str, Any]:
        """Return what is known under a key."""
        return self._values[key]

    def add(self, key: str, values: Mapping[str, Any]) -> None:
        """Keep what was found out, at once: a kill takes nothing, a power cut what a second had found.

        Raises:
            OutputError: it cannot be written.
        """
        self._write({"key": key, "values": dict(values)})
        self._values[key].update(values)

    def _make(self, overwrite: bool) -> None:
        if not overwrite and any(path.name != MARKER_FILE for path in self.folder.iterdir()):
            raise OutputError(f"{self.folder} exists and holds no sweep: give another --output")
        write_marker(self.folder, "sweep", [JOURNAL_FILE])
        self._path.touch()
        sync_name(self._path)

    def _lock(self) -> None:
        if try_lock(self._file.fileno()) is False:
            raise OutputError(f"another sweep is writing to {self.folder}: wait for it, or give another --output")

    def _empty(self) -> None:
        """Remove what another sweep left, now that it is sure that none is at work here."""
        check_output(self.folder, "sweep", overwrite=True)
        with self._told():
            for path in self.folder.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name not in (JOURNAL_FILE, MARKER_FILE):
                    path.unlink()
            self._file.truncate(0)
            write_marker(self.folder, "sweep", [JOURNAL_FILE])

    def _go_on(self, identity: Identity) -> None:
        """Read what is there, and note what this sweep adds to its identity."""
        self._file.seek(0)
        known: dict[str, Any] = {}
        whole = 0
        for line in self._file.read().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break  # a kill cut it off
            content = self._parse(line)
            known |= content.get("identity", {})
            self._values[content.get("key", "")].update(content.get("values", {}))
            whole += len(line)
        self._file.truncate(whole)
        ours = {name: value for name, value in identity.items() if value is not None}
        if other := [name for name, value in ours.items() if known.get(name, value) != value]:
            raise OutputError(
                f"{self.folder} holds another sweep, of another {' and '.join(other).replace('_', ' ')}: "
                "give another --output, or --overwrite"
            )
        if ours.keys() - known.keys():
            self._write({"identity": ours})

    def _parse(self, line: bytes) -> dict[str, Any]:
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            content = None
        held = [content.get(name, {}) for name in ("identity", "values")] if isinstance(content, dict) else [None]
        if not all(isinstance(part, dict) for part in held):
            raise OutputError(f"{self._path} is damaged: start anew with --overwrite")
        return dict(content)

    def _write(self, content: Any) -> None:
        with self._told():
            self._file.write(json.dumps(content, separators=(",", ":")).encode() + b"\n")
            self._file.flush()
        if time.monotonic() - self._synced > _SECONDS_BETWEEN_SYNCS:
            self._sync()

    def _sync(self) -> None:
        with self._told():
            os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self._path} cannot be written: {error.strerror}") from None
