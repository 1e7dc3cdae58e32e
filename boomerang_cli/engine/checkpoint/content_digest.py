"""Which weights a model holds, by a name that survives an upload: on this disk and on the Hub it is the same."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from boomerang_cli.engine.checkpoint.checkpoint import Checkpoint
from boomerang_cli.engine.checkpoint.files import File, RemoteFile, SourceFile
from boomerang_cli.engine.errors import CheckpointError
from boomerang_cli.engine.waiting import waiting

_READ_BYTES = 2**22
_SAMPLE_BYTES = 2**16
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SAID_BY_TOOLS = ("_name_or_path", "transformers_version")
"""Keys of ``config.json`` that say nothing of the model, and change on its way."""


def weights_digest(checkpoint: Checkpoint) -> str | None:
    """Return a name for a model's weights; None where the Hub does not tell it.

    It is made of the SHA-256 of each file. The Hub lists it, a file in its cache is called by it, and beside files of
    ``hf download --local-dir`` it is recorded; others are read, once by a process.

    Raises:
        CheckpointError: a file cannot be read.
    """
    with waiting(f"reading all weights of {checkpoint.name}, for their SHA-256"):
        digests = [_digest(file) for file in checkpoint.weight_files.values()]
    return None if None in digests else joined(each for each in digests if each)


def weights_sample(checkpoint: Checkpoint) -> str | None:
    """Return a name for the end of each file of weights, which a training changes; None of files on the Hub.

    Another name is another model, found out at once; the same name asks for :func:`weights_digest`.

    Raises:
        CheckpointError: a file cannot be read.
    """
    files = checkpoint.weight_files
    local = [file for _, file in sorted(files.items()) if isinstance(file, SourceFile)]
    ends = [sha256_of(file.path, skip=max(0, file.size_bytes - _SAMPLE_BYTES)) for file in local]
    return joined(ends) if len(local) == len(files) else None


def config_digest(checkpoint: Checkpoint) -> str:
    """Return a name for what ``config.json`` says of the model."""
    content = {key: value for key, value in checkpoint.config.items() if key not in _SAID_BY_TOOLS}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def joined(digests: Iterable[str]) -> str:
    """Return the name of the weights whose files have these SHA-256s, whatever the files are called."""
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def sha256_of(path: Path, beginning: bytes = b"", skip: int = 0) -> str:
    """Return the SHA-256 of a file.

    Args:
        beginning: what stands in place of its first ``skip`` bytes.

    Raises:
        CheckpointError: it cannot be read.
    """
    digest = hashlib.sha256(beginning)
    try:
        with path.open("rb") as opened:
            opened.seek(skip)
            while chunk := opened.read(_READ_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def _digest(file: File) -> str | None:
    if isinstance(file, RemoteFile):
        return file.sha256
    kept = file.path.resolve()  # the Hub's cache calls a large file by its SHA-256
    if kept.parent.name == "blobs" and _SHA256.fullmatch(kept.name):
        return kept.name
    return _recorded(file.path) or _read_once(file)


@lru_cache(maxsize=64)
def _read_once(file: SourceFile) -> str:
    """Return the SHA-256 of a file of this size and time."""
    return sha256_of(file.path)


def _recorded(path: Path) -> str | None:
    """Return what ``hf download --local-dir`` wrote down of a large file: its commit, its SHA-256, and when it came."""
    record = path.parent / ".cache" / "huggingface" / "download" / f"{path.name}.metadata"
    try:
        _, digest, came = record.read_text("utf-8").split()
        is_as_it_came = path.stat().st_mtime <= float(came) + 1  # as huggingface_hub compares them
    except (OSError, ValueError):
        return None
    return digest if is_as_it_came and _SHA256.fullmatch(digest) else None
