"""The Hub itself: what is on it, what tests put there and look at."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from hub_double.access import Access
from hub_double.blobs import Blob, blob_of, is_lfs
from hub_double.faults import Fault, Faults
from hub_double.messages import Answer, Json, Refusal, Request
from hub_double.repos import Commit, Repo
from hub_double.server import Server


class HubDouble(Access, Faults):
    """What is on the Hub, what tests do to it, and its two servers. Use it as a context manager."""

    multipart_bytes = 20_000_000  # LFS objects above this size are uploaded in parts
    part_bytes = 8_000_000
    page_size = 1000  # entries of a tree in one answer

    def __init__(self) -> None:
        Access.__init__(self, folder=Path(tempfile.mkdtemp(prefix="hub-double-")))
        Faults.__init__(self)
        self.collections: dict[str, Json] = {}
        self.requests: list[Request] = []
        self.unknown: list[Request] = []  # requests that no route answers: 404, and no fault meets them
        self.bugs: list[Exception] = []  # the double's own exceptions: the first is raised on exit
        self.lock = threading.RLock()
        self.closing = threading.Event()
        self.api, self.storage = Server(self, "api", "127.0.0.1"), Server(self, "storage", "localhost")
        self.endpoint = self.api.origin

    def __enter__(self) -> HubDouble:
        for server in (self.api, self.storage):
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self.closing.set()
        for server in (self.api, self.storage):
            server.shutdown()
            server.server_close()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.bugs and error_type is None:
            raise self.bugs[0]

    def environment(self, home: Path, token: bool | str = True) -> dict[str, str]:
        """A subprocess's environment that makes this its Hub; `token` may be another one, or False for none."""
        foreign = ("HF_", "HUGGING", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith(foreign)}
        settings = {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        secret = {"HF_TOKEN": self.token if token is True else token} if token else {}
        return {**inherited, **settings, **secret, "HF_HUB_DISABLE_TELEMETRY": "1"}

    def add_model(
        self, repo_id: str, files: Mapping[str, bytes] | Path, private: bool = False, gated: bool | str = False
    ) -> str:
        """Commit exactly these files to main; a folder's are served from where they are. Returns the commit's id."""
        with self.lock:
            repo = self.repos.setdefault(repo_id, Repo(repo_id))
            repo.private, repo.gated = private, gated
            if isinstance(files, Path):
                paths = (path for path in files.rglob("*") if path.is_file())
                blobs = {path.relative_to(files).as_posix(): blob_of(path) for path in paths}
            else:
                blobs = {name: self.keep(content, is_lfs(name, len(content))) for name, content in files.items()}
            repo.objects |= {blob.oid: blob for blob in blobs.values() if blob.lfs}
            return repo.commit("refs/heads/main", blobs, "Add model").oid

    def rename(self, former: str, repo_id: str) -> None:
        """Give a repository another id; the former one redirects to it."""
        with self.lock:
            self.repos[repo_id] = self.repos.pop(former)
            self.renamed[former] = repo_id

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        with self.lock:  # a client that was killed may have left a request behind that is being answered
            return {name: blob.path.read_bytes() for name, blob in self.repos[repo_id].at(revision).files.items()}

    def commits(self, repo_id: str, revision: str = "main") -> list[Commit]:
        """The newest first."""
        history = [self.repos[repo_id].at(revision)]
        while history[-1].parent is not None:
            history.append(history[-1].parent)
        return history

    def seen(self, method: str | None = None, path: str = "", server: str | None = None) -> list[Request]:
        """The requests so far with this method, path (a regular expression) and server ("api" or "storage")."""
        pattern = Fault(method, path, times=None)
        return [request for request in self.requests if pattern.matches(request) and server in (None, request.server)]

    # For the routes

    def keep(self, content: bytes, lfs: bool = False) -> Blob:
        path = self.folder / hashlib.sha256(content).hexdigest()
        if not path.exists():  # written again, it would be empty for a moment, while another request may read it
            whole = path.with_suffix(".new")
            whole.write_bytes(content)
            whole.replace(path)
        return blob_of(path, lfs)

    def store(self, repo_id: str, oid: str, path: Path, sha256: str) -> Answer:
        if sha256 != oid:
            raise Refusal(400, f"BadDigest: received {sha256}")
        kept = path.replace(self.folder / oid)
        self.repos[repo_id].objects[oid] = Blob(kept, kept.stat().st_size, oid, lfs=True)
        return Answer(200, headers={"ETag": f'"{oid[:32]}"'})
