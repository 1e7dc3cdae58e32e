"""stdin, stdout and stderr as any system may hand them over: closed, full, or in a narrow encoding."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from boomerang_cli.engine.errors import OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_PLAIN = {"…": "...", "±": "+-", "━": "-"}
"""What ASCII has in place of the characters that we print ourselves."""


def prepare() -> None:
    """See to it that a command can print whatever it has to, before it opens anything."""
    _open_closed()
    codecs.register_error("boomerang", _encode)
    sys.stdout = _text(_Stdout(1, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_Stderr(2, "w", closefd=False), sys.stderr)


def finish() -> None:
    """Let go of what could not be printed, or Python would complain of it once more as it ends."""
    try:
        sys.stdout.flush()
    except (OSError, OutputError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


class _Stdout(io.FileIO):
    """The result's: that it cannot be printed is an error with one line, but for a reader that had enough."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"the result cannot be printed on stdout: {error.strerror}") from None


class _Stderr(io.FileIO):
    """Progress and notes: hours of work do not end because nobody can read them (a full disk, a closed terminal)."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _open_closed() -> None:
    """Open what is closed to nowhere: else the first file of a model would be stderr, with messages in it."""
    for descriptor in range(3):
        if not _is_open(descriptor):
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free, this one


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _text(raw: io.FileIO, before: TextIO | None) -> TextIO:
    """Return a text stream like Python's own, but for what it does with characters that its encoding lacks."""
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding if before else "utf-8",
        errors="boomerang",
        line_buffering=raw.fileno() == 2 or raw.isatty(),
    )


def _encode(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode a name that is no UTF-8 as the bytes that it is, and what the encoding lacks as something that it has."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    try:
        return character.encode("ascii", "surrogateescape"), error.start + 1
    except UnicodeEncodeError:
        return _PLAIN.get(character, character).encode("ascii", "backslashreplace"), error.start + 1
