"""A file's content as the Hub stores it: its size, its ETag, and whether LFS keeps it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from hub_double.messages import CHUNK_BYTES, Json

LFS_SUFFIXES = (".safetensors", ".bin", ".png", ".pt", ".gguf")
LFS_ABOVE_BYTES = 10_000_000
GIT_ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()


@dataclass(frozen=True)
class Blob:
    """A file's content, read from `path` whenever it is served; `oid` is the ETag: SHA-256 (LFS) or git's SHA-1."""

    path: Path
    size: int
    oid: str
    lfs: bool

    @property
    def pointer(self) -> bytes:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.oid}\nsize {self.size}\n".encode()

    @property
    def git_oid(self) -> str:
        return git_sha1(self.pointer) if self.lfs else self.oid

    def lfs_entry(self, oid_key: str) -> Json:
        entry = {oid_key: self.oid, "size": self.size, "pointerSize": len(self.pointer)}
        return {"lfs": entry} if self.lfs else {}


def blob_of(path: Path, lfs: bool | None = None) -> Blob:
    size = path.stat().st_size
    lfs = is_lfs(path.name, size) if lfs is None else lfs
    return Blob(path, size, sha256_of(path) if lfs else git_sha1(path.read_bytes()), lfs)


def is_lfs(name: str, size: int) -> bool:
    return size > 0 and (name.endswith(LFS_SUFFIXES) or size > LFS_ABOVE_BYTES)


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
