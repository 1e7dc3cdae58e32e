"""A model's repository: commits, what names them, and the LFS objects that were uploaded to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from hub_double.blobs import Blob, git_sha1
from hub_double.messages import Refusal


@dataclass(frozen=True)
class Commit:
    oid: str
    title: str
    description: str
    date: str
    files: Mapping[str, Blob]
    parent: Commit | None


@dataclass
class Repo:
    id: str
    private: bool = False
    gated: bool | str = False
    refs: dict[str, Commit] = field(default_factory=dict)  # by full name: refs/heads/main, refs/tags/v1, refs/pr/1
    commits: dict[str, Commit] = field(default_factory=dict)
    objects: dict[str, Blob] = field(default_factory=dict)  # uploaded LFS objects, committed or not; per repo [mem]

    def ref(self, revision: str) -> str | None:
        names = (revision, f"refs/heads/{revision}", f"refs/tags/{revision}")
        return next((name for name in names if name in self.refs), None)

    def at(self, revision: str) -> Commit:
        if (head := self.refs.get(self.ref(revision) or "", self.commits.get(revision))) is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return head

    def commit(self, ref: str, files: Mapping[str, Blob], title: str, description: str = "") -> Commit:
        parent, date = self.refs.get(ref), now()
        contents = {path: blob.oid for path, blob in sorted(files.items())}
        oid = git_sha1(json.dumps([self.id, parent and parent.oid, title, date, contents]).encode())
        self.refs[ref] = self.commits[oid] = Commit(oid, title, description, date, dict(files), parent)
        return self.refs[ref]


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
