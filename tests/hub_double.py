"""A Hub on loopback: a real HTTP server that answers huggingface_hub's client, and fails when it is told to.

`HF_ENDPOINT`, `HF_HUB_DISABLE_XET` and the cache folders are read when huggingface_hub is imported, so what is tested
runs in a subprocess:

    @pytest.fixture
    def hub() -> Iterator[HubDouble]:
        with HubDouble() as hub:
            yield hub

    def test_a_push_is_retried(hub: HubDouble, tmp_path: Path) -> None:
        hub.fail("PUT", "/uploads/", status=500)
        subprocess.run([sys.executable, "-m", "boomerang_cli", "push", ...], env=hub.environment(tmp_path / "home"))
        assert set(hub.files("tester/model")) == {...}

In the test's own process only calls with `endpoint=hub.endpoint, token=hub.token` reach it (`HfApi(...)`,
`hf_hub_download(...)`), and uploads need `huggingface_hub.constants.HF_HUB_DISABLE_XET` patched to True.

The API and the storage of LFS objects are two servers on two ports, so two origins. An LFS file is redirected from
`{endpoint}/{repo}/resolve/{revision}/{file}` to `{storage}/{repo}/objects/{sha256}?filename={file}&signature=...` and
uploaded to `{storage}/{repo}/uploads/{sha256}` or, above `multipart_bytes`, `{storage}/{repo}/parts/{sha256}/{number}`.
Like S3, the storage refuses a token beside its signature. Plain LFS only, no Xet; models only. What is known of the
real Hub from memory alone is marked [mem].
"""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import hashlib
import io
import json
import os
import re
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import yaml

Json = dict[str, Any]
LFS_SUFFIXES = (".safetensors", ".bin", ".png", ".pt", ".gguf")
LFS_ABOVE_BYTES = 10_000_000
GIT_ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()
CHUNK_BYTES = 1 << 20


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


@dataclass
class Request:
    """One request as it arrived. The counts are of bodies; `bytes_sent` is what was handed to the socket."""

    server: str  # "api" or "storage"
    method: str
    path: str  # as sent: quoted, with the query
    headers: dict[str, str]  # names in lower case
    body: bytes = b""  # the API's alone
    status: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    upload: tuple[Path, str] | None = None  # the file that the storage received and its SHA-256, until it is answered

    @property
    def range(self) -> str | None:
        return self.headers.get("range")

    @property
    def token(self) -> str | None:
        return self.headers.get("authorization", "").removeprefix("Bearer ") or None

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query)

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[0].lower() in ("1", "true")

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    status: int = 200
    body: Any = b""  # bytes, a string, or what JSON can hold
    headers: dict[str, str] = field(default_factory=dict)
    file: Path | None = None  # served instead of `body`, by range if one is asked for

    def open(self) -> io.BufferedIOBase:
        if self.file is not None:
            return self.file.open("rb")
        text = self.body if isinstance(self.body, (bytes, str)) else json.dumps(self.body)
        return io.BytesIO(text if isinstance(text, bytes) else text.encode())


class Refusal(Exception):
    def __init__(self, status: int, message: str, code: str = "", headers: Json | None = None, **body: str) -> None:
        named = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer = Answer(status, {"error": message, **body}, named | (headers or {}))


@dataclass
class Fault:
    """What goes wrong with the next `times` requests (None: all) that match. A request meets the first live one."""

    method: str | None = None
    path: str = ""  # a regular expression, searched for in the path as sent
    times: int | None = 1
    answer: Answer | None = None
    cut_after: int | None = None
    reset: bool = False
    seconds: float = 0.0
    bytes_per_second: float | None = None
    ignore_range: bool = False
    hits: int = 0

    def matches(self, request: Request) -> bool:
        if self.hits == self.times or (self.cut_after is not None and request.method == "HEAD"):
            return False
        return self.method in (None, request.method) and re.search(self.path, request.path) is not None


class HubDouble:
    """What is on the Hub, what tests do to it, and its two servers. Use it as a context manager."""

    user = "tester"
    organizations = ("tester-org",)
    token = "hf_double_token_that_writes"
    read_token = "hf_double_token_that_reads"
    multipart_bytes = 20_000_000  # LFS objects above this size are uploaded in parts
    part_bytes = 8_000_000
    page_size = 1000  # entries of a tree in one answer

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.collections: dict[str, Json] = {}
        self.granted: set[str] = set()  # private and gated repos of others that both tokens may read
        self.requests: list[Request] = []
        self.unknown: list[Request] = []  # requests that no route answers: 404, and no fault meets them
        self.faults: list[Fault] = []
        self.bugs: list[Exception] = []  # the double's own exceptions: the first is raised on exit
        self.lock = threading.RLock()
        self.closing = threading.Event()
        self.folder = Path(tempfile.mkdtemp(prefix="hub-double-"))
        self.api, self.storage = Server(self, "api"), Server(self, "storage")
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

    def fail(
        self, method: str | None = None, path: str = "", status: int = 500, body: Any = None,
        headers: Mapping[str, str] | None = None, times: int | None = 1,
    ) -> Fault:  # fmt: skip
        """Answer this instead; the request has no effect."""
        answer = Answer(status, {"error": f"{status}, as told"} if body is None else body, dict(headers or {}))
        return self.add_fault(Fault(method, path, times, answer=answer))

    def cut(
        self, method: str | None = None, path: str = "", after_bytes: int = 0, reset: bool = False,
        times: int | None = 1,
    ) -> Fault:  # fmt: skip
        """Close the connection (FIN, or RST with `reset`) after so many bytes of a body: a PUT's own, which then has no
        effect, else the answer's, whose request was carried out: the commit is made and the client does not know."""
        return self.add_fault(Fault(method, path, times, cut_after=after_bytes, reset=reset))

    def slow(
        self, method: str | None = None, path: str = "", seconds: float = 0.0, bytes_per_second: float | None = None,
        times: int | None = None,
    ) -> Fault:  # fmt: skip
        """Wait before reading the request's body, or send the answer's body at this rate."""
        return self.add_fault(Fault(method, path, times, seconds=seconds, bytes_per_second=bytes_per_second))

    def ignore_range(self, path: str = "", times: int | None = None) -> Fault:
        """Answer 200 and the whole file where a range is asked for."""
        return self.add_fault(Fault("GET", path, times, ignore_range=True))

    def add_fault(self, fault: Fault) -> Fault:
        self.faults.append(fault)
        return fault

    # For the routes

    def keep(self, content: bytes, lfs: bool = False) -> Blob:
        path = self.folder / hashlib.sha256(content).hexdigest()
        if not path.exists():  # written again, it would be empty for a moment, while another request may read it
            whole = path.with_suffix(".new")
            whole.write_bytes(content)
            whole.replace(path)
        return blob_of(path, lfs)

    def role(self, request: Request) -> str | None:
        """The token's role, "write" or "read"; None without a token."""
        if request.token not in (roles := {None: None, self.token: "write", self.read_token: "read"}):
            raise Refusal(401, "Invalid credentials in Authorization header")
        return roles[request.token]

    def is_ours(self, repo_id: str) -> bool:
        return repo_id.split("/")[0] in (self.user, *self.organizations)

    def readable(self, request: Request, repo_id: str, contents: bool = False) -> Repo:
        """The repo, or a refusal; anybody may list a gated repo, not read its files' `contents` [mem]."""
        role, repo = self.role(request), self.repos.get(repo_id)
        member = role is not None and (self.is_ours(repo_id) or repo_id in self.granted)
        if repo is None or (repo.private and not member):
            message = "Repository not found" if role else "Invalid username or password."
            raise Refusal(404 if role else 401, message, "RepoNotFound")
        if contents and repo.gated and not member:
            raise Refusal(403 if role else 401, f"Access to model {repo_id} is restricted.", "GatedRepo")
        return repo

    def check_may_write(self, request: Request, repo_id: str) -> None:
        if (role := self.role(request)) is None:
            raise Refusal(401, "Invalid username or password.")
        if role != "write" or not self.is_ours(repo_id):
            raise Refusal(403, f"You don't have the rights to write to {repo_id} with this token")

    def writable(self, request: Request, repo_id: str) -> Repo:
        """The repo, or a refusal; a pull request needs no right to the repo, only a token that writes."""
        repo = self.readable(request, repo_id)
        if not (request.flag("create_pr") and self.role(request) == "write"):
            self.check_may_write(request, repo_id)
        return repo

    def signature(self, method: str, path: str) -> str:
        return git_sha1(f"{self.folder} {method} {path}".encode())

    def signed(self, server: Server, method: str, path: str, **query: str) -> str:
        return f"{server.origin}{path}?{urlencode({**query, 'signature': self.signature(method, path)})}"

    def check_signature(self, request: Request) -> None:
        if request.token is not None:
            raise Refusal(400, "Only one auth mechanism allowed: a token was sent beside the signature")
        method, path = request.method.replace("HEAD", "GET"), urlsplit(request.path).path
        if request.query.get("signature") != [self.signature(method, path)]:
            raise Refusal(403, "SignatureDoesNotMatch")

    def store(self, repo_id: str, oid: str, path: Path, sha256: str) -> Answer:
        if sha256 != oid:
            raise Refusal(400, f"BadDigest: received {sha256}")
        kept = path.replace(self.folder / oid)
        self.repos[repo_id].objects[oid] = Blob(kept, kept.stat().st_size, oid, lfs=True)
        return Answer(200, headers={"ETag": f'"{oid[:32]}"'})


# The protocol: functions of the Hub, the request and the groups of the path

ROUTES: list[tuple[str, str, re.Pattern[str], Callable[..., Answer]]] = []
REPO_ID = r"(?P<repo_id>[\w.-]+(?:/[\w.-]+)?)"


def route(server: str, method: str, path: str) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    def register(function: Callable[..., Answer]) -> Callable[..., Answer]:
        pattern = path.replace("{model}", "/api/models/{repo}").replace("{repo}", REPO_ID)
        ROUTES.append((server, method, re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", pattern)), function))
        return function

    return register


def find_route(request: Request) -> tuple[Callable[..., Answer] | None, dict[str, str]]:
    path, method = urlsplit(request.path).path, request.method.replace("HEAD", "GET")
    for server, verb, pattern, function in ROUTES:
        if (server, verb) == (request.server, method) and (match := pattern.fullmatch(path)):
            return function, {name: unquote(text or "") for name, text in match.groupdict().items()}
    return None, {}


@route("api", "GET", "/api/whoami-v2")
def whoami(hub: HubDouble, request: Request) -> Answer:
    if (role := hub.role(request)) is None:
        raise Refusal(401, "Invalid username or password.")
    organizations = [{"type": "org", "name": name, "roleInOrg": "write"} for name in hub.organizations]
    auth = {"type": "access_token", "accessToken": {"displayName": "double", "role": role}}
    return Answer(200, {"type": "user", "name": hub.user, "orgs": organizations, "auth": auth})


@route("api", "POST", "/api/repos/create")
def create_repo(hub: HubDouble, request: Request) -> Answer:
    asked = request.json()
    repo_id = f"{asked.get('organization') or hub.user}/{asked['name']}"
    url = f"{hub.endpoint}/{repo_id}"
    hub.check_may_write(request, repo_id)
    if asked.get("type", "model") != "model":
        raise Refusal(400, "This Hub has models alone")
    if repo_id in hub.repos:
        raise Refusal(409, "You already created this model repo", url=url)
    repo = hub.repos[repo_id] = Repo(repo_id, private=asked.get("visibility") == "private")
    repo.commit("refs/heads/main", {".gitattributes": hub.keep(GIT_ATTRIBUTES)}, "initial commit")
    return Answer(201, {"url": url, "name": repo_id})


@route("api", "POST", "/api/validate-yaml")
def validate_yaml(hub: HubDouble, request: Request) -> Answer:
    """Whether it is a YAML mapping; the real Hub checks the values too (`fail` with a 400 and `errors` plays that)."""
    card, errors = {}, []
    try:
        card = card_data(request.json()["content"])
    except yaml.YAMLError as error:
        errors.append(f"YAML: {error}")
    if errors and request.headers.get("accept") == "text/plain":
        return Answer(400, "\n".join(errors))
    warnings = [] if card or errors else ["empty or missing yaml metadata in repo card"]
    body = {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}
    return Answer(400 if errors else 200, body)


@route("api", "POST", "{model}/preupload/{revision}")
def preupload(hub: HubDouble, request: Request, repo_id: str, revision: str) -> Answer:
    present, asked = hub.writable(request, repo_id).at(revision).files, request.json()
    ignored = asked.get("gitIgnore") or (present[".gitignore"].path.read_text() if ".gitignore" in present else "")
    patterns = [line.strip().rstrip("/") for line in ignored.splitlines() if line.strip() and line[0] != "#"]
    files = []
    for path, size in ((file["path"], file["size"]) for file in asked["files"]):
        ignore = any(fnmatch.fnmatch(part, pattern) for part in (path, *path.split("/")) for pattern in patterns)
        oid = {"oid": present[path].oid} if path in present else {}
        mode = "lfs" if is_lfs(path, size) else "regular"
        files.append({"path": path, "uploadMode": mode, "shouldIgnore": ignore, **oid})
    return Answer(200, {"files": files})


@route("api", "POST", r"/{repo}\.git/info/lfs/objects/batch")
def lfs_batch(hub: HubDouble, request: Request, repo_id: str) -> Answer:
    if (role := hub.role(request)) != "write":
        raise Refusal(403 if role else 401, "This token cannot write")
    repo, asked = hub.readable(request, repo_id), request.json()
    objects: list[Json] = []
    for oid, size in ((item["oid"], item["size"]) for item in asked["objects"]):
        objects.append({"oid": oid, "size": size})
        if oid in repo.objects:
            continue
        upload: Json = {"href": hub.signed(hub.storage, "PUT", f"/{repo_id}/uploads/{oid}")}
        if size > hub.multipart_bytes and "multipart" in asked["transfers"]:
            numbers = range(1, -(-size // hub.part_bytes) + 1)
            parts = {f"{n:05}": hub.signed(hub.storage, "PUT", f"/{repo_id}/parts/{oid}/{n}") for n in numbers}
            completion = hub.signed(hub.api, "POST", f"/api/complete/{repo_id}/{oid}")
            upload = {"href": completion, "header": {"chunk_size": str(hub.part_bytes), **parts}}
        verify = {"href": f"{hub.endpoint}/{repo_id}.git/info/lfs/objects/verify"}
        objects[-1]["actions"] = {"upload": upload, "verify": verify}
    return Answer(200, {"transfer": "basic", "objects": objects})


@route("storage", "PUT", "/{repo}/uploads/{oid}")
def put_object(hub: HubDouble, request: Request, repo_id: str, oid: str) -> Answer:
    hub.check_signature(request)
    assert request.upload is not None
    return hub.store(repo_id, oid, *request.upload)


@route("storage", "PUT", "/{repo}/parts/{oid}/{number}")
def put_part(hub: HubDouble, request: Request, repo_id: str, oid: str, number: str) -> Answer:
    hub.check_signature(request)
    assert request.upload is not None
    path, sha256 = request.upload
    path.replace(hub.folder / f"{oid}.{number}")
    return Answer(200, headers={"ETag": f'"{sha256}"'})


@route("api", "POST", "/api/complete/{repo}/{oid}")
def complete_multipart(hub: HubDouble, request: Request, repo_id: str, oid: str) -> Answer:
    hub.check_signature(request)
    whole = hub.folder / f"{oid}.whole"
    with whole.open("wb") as target:
        for part in request.json()["parts"]:
            path = hub.folder / f"{oid}.{part['partNumber']}"
            if part["etag"] != f'"{sha256_of(path)}"':
                raise Refusal(400, "InvalidPart")
            with path.open("rb") as source:
                shutil.copyfileobj(source, target, CHUNK_BYTES)
    return hub.store(repo_id, oid, whole, sha256_of(whole))


@route("api", "POST", r"/{repo}\.git/info/lfs/objects/verify")
def lfs_verify(hub: HubDouble, request: Request, repo_id: str) -> Answer:
    blob = hub.readable(request, repo_id).objects.get(request.json()["oid"])
    if blob is None or blob.size != request.json()["size"]:
        raise Refusal(404, "Object not found, or of another size")
    return Answer(200, {"message": "Object verified"})


@route("api", "POST", "{model}/commit/{revision}")
def commit(hub: HubDouble, request: Request, repo_id: str, revision: str) -> Answer:
    repo = hub.writable(request, repo_id)
    base, ref = repo.at(revision), repo.ref(revision)
    if ref is None or ref.startswith("refs/tags/"):
        raise Refusal(400, f"{revision} is not a branch")
    header, *operations = map(json.loads, request.body.splitlines())
    if header["value"].get("parentCommit", base.oid) != base.oid:
        raise Refusal(412, "A commit has happened since. Please refresh and try again.")
    files = dict(base.files)
    for kind, value in ((operation["key"], operation["value"]) for operation in operations):
        path = value["path"]
        if kind == "file":
            files[path] = hub.keep(base64.b64decode(value["content"]))
        elif kind == "lfsFile":
            if value["oid"] not in repo.objects:
                raise Refusal(400, f"{path}: its object was not uploaded")
            files[path] = repo.objects[value["oid"]]
        else:
            prefix = path.rstrip("/") + "/"
            gone = [name for name in files if name.startswith(prefix) or (kind == "deletedFile" and name == path)]
            if not gone:
                raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
            files = {name: blob for name, blob in files.items() if name not in gone}
    answer = {}
    if request.flag("create_pr"):
        number = 1 + sum(name.startswith("refs/pr/") for name in repo.refs)
        ref = f"refs/pr/{number}"
        repo.refs[ref] = base
        answer["pullRequestUrl"] = f"{hub.endpoint}/{repo_id}/discussions/{number}"
    made = repo.commit(ref, files, header["value"]["summary"], header["value"]["description"])
    return Answer(200, {"commitUrl": f"{hub.endpoint}/{repo_id}/commit/{made.oid}", "commitOid": made.oid, **answer})


@route("api", "GET", "{model}/refs")
def list_refs(hub: HubDouble, request: Request, repo_id: str) -> Answer:
    answer: Json = {"branches": [], "tags": [], "pullRequests": [], "converts": []}
    kinds = {"refs/heads/": "branches", "refs/tags/": "tags", "refs/pr/": "pullRequests"}
    for ref, head in hub.readable(request, repo_id).refs.items():
        prefix = next(prefix for prefix in kinds if ref.startswith(prefix))
        answer[kinds[prefix]].append({"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": head.oid})
    return Answer(200, answer)


@route("api", "POST", "{model}/(?P<kind>branch|tag)/{name}")
def create_ref(hub: HubDouble, request: Request, repo_id: str, kind: str, name: str) -> Answer:
    repo, asked = hub.writable(request, repo_id), request.json()
    ref = f"refs/heads/{name}" if kind == "branch" else f"refs/tags/{asked['tag']}"
    if ref in repo.refs:
        raise Refusal(409, f"Reference already exists: {ref}")
    repo.refs[ref] = repo.at(asked.get("startingPoint", "main") if kind == "branch" else name)
    return Answer()


@route("api", "GET", "{model}/tree/{revision}(?:/(?P<folder>.*))?")
def tree(hub: HubDouble, request: Request, repo_id: str, revision: str, folder: str) -> Answer:
    head, prefix = hub.readable(request, repo_id).at(revision), f"{folder}/" if folder else ""
    found = [entry for entry in entries(head, request.flag("expand")) if entry["path"].startswith(prefix)]
    if folder and not found:
        raise Refusal(404, f"{folder} does not exist on {revision}", "EntryNotFound")
    if not request.flag("recursive"):
        found = [entry for entry in found if "/" not in entry["path"].removeprefix(prefix)]
    start = int(request.query.get("cursor", ["0"])[0])
    stop, headers = start + hub.page_size, {}
    if stop < len(found):
        query = urlencode(request.query | {"cursor": [str(stop)]}, doseq=True)
        headers["Link"] = f'<{hub.endpoint}{urlsplit(request.path).path}?{query}>; rel="next"'
    return Answer(200, found[start:stop], headers)


@route("api", "POST", "{model}/paths-info/{revision}")
def paths_info(hub: HubDouble, request: Request, repo_id: str, revision: str) -> Answer:
    asked = parse_qs(request.body.decode())
    listed = entries(hub.readable(request, repo_id).at(revision), asked.get("expand", [""])[0].lower() == "true")
    return Answer(200, [entry for entry in listed if entry["path"] in asked.get("paths", [])])


def entries(commit: Commit, expand: bool) -> list[Json]:
    """The files and folders of a commit, as trees and paths-info list them."""
    last = {"lastCommit": {"id": commit.oid, "title": commit.title, "date": commit.date}} if expand else {}
    folders = {parent.as_posix() for path in commit.files for parent in Path(path).parents} - {"."}
    listed: list[Json] = [{"type": "directory", "path": path, "oid": git_sha1(path.encode())} for path in folders]
    for path, blob in commit.files.items():
        listed.append({"type": "file", "path": path, "size": blob.size, "oid": blob.git_oid, **blob.lfs_entry("oid")})
    return sorted((entry | last for entry in listed), key=lambda entry: str(entry["path"]))


@route("api", "GET", "{model}(?:/revision/{revision})?")
def model_info(hub: HubDouble, request: Request, repo_id: str, revision: str) -> Answer:
    repo = hub.readable(request, repo_id)
    head = repo.at(revision or "main")
    card: Json = {}
    with contextlib.suppress(KeyError, yaml.YAMLError):
        card = card_data(head.files["README.md"].path.read_text())
    siblings: list[Json] = [{"rfilename": path} for path in sorted(head.files)]
    if request.flag("blobs"):
        for sibling in siblings:
            blob = head.files[sibling["rfilename"]]
            sibling |= {"size": blob.size, "blobId": blob.git_oid, **blob.lfs_entry("sha256")}
    info: Json = {"id": repo_id, "sha": head.oid, "lastModified": head.date, "siblings": siblings, "cardData": card}
    info |= {"private": repo.private, "gated": "auto" if repo.gated is True else repo.gated, "disabled": False}
    info |= {"author": repo_id.split("/")[0], "tags": card.get("tags") or [], "downloads": 0, "likes": 0}
    info |= {key: card[key] for key in ("library_name", "pipeline_tag") if key in card}
    wanted = request.query.get("expand", info)
    return Answer(200, {key: value for key, value in info.items() if key == "id" or key in wanted})


@route("api", "GET", "/{repo}/resolve/{revision}/(?P<path>.+)")
def resolve(hub: HubDouble, request: Request, repo_id: str, revision: str, path: str) -> Answer:
    head = hub.readable(request, repo_id, contents=True).at(revision)
    headers = {"X-Repo-Commit": head.oid, "Accept-Ranges": "bytes"}
    if (blob := head.files.get(path)) is None:
        raise Refusal(404, "Entry not found", "EntryNotFound", headers)
    headers |= {"ETag": f'"{blob.oid}"'}
    if not blob.lfs:
        return Answer(200, headers=headers, file=blob.path)
    location = hub.signed(hub.storage, "GET", f"/{repo_id}/objects/{blob.oid}", filename=path)
    headers |= {"Location": location, "X-Linked-Size": str(blob.size), "X-Linked-Etag": f'"{blob.oid}"'}
    return Answer(302, f"Found. Redirecting to {location}", headers)


@route("storage", "GET", "/{repo}/objects/{oid}")
def get_object(hub: HubDouble, request: Request, repo_id: str, oid: str) -> Answer:
    hub.check_signature(request)
    headers = {"ETag": f'"{oid[:32]}"', "Accept-Ranges": "bytes"}  # as on S3, not the ETag that the API links
    return Answer(200, headers=headers, file=hub.repos[repo_id].objects[oid].path)


@route("api", "POST", "/api/collections")
def create_collection(hub: HubDouble, request: Request) -> Answer:
    asked = request.json()
    owner, title = asked["namespace"], asked["title"]
    hub.check_may_write(request, owner)
    if len(asked.get("description", "")) > 150:
        raise Refusal(400, "The description must be at most 150 characters")
    slug = f"{owner}/{re.sub('[^a-z0-9]+', '-', title.lower()).strip('-')}-{git_sha1(title.encode())[:24]}"
    if slug in hub.collections:
        raise Refusal(409, "This collection already exists", slug=slug)
    made = {"slug": slug, "title": title, "description": asked.get("description"), "private": asked["private"]}
    made |= {"owner": owner, "items": [], "lastUpdated": now(), "position": 0, "theme": "green", "upvotes": 0}
    hub.collections[slug] = made
    return Answer(200, made)


@route("api", "GET", "/api/collections/(?P<slug>[^/]+/[^/]+)")
def get_collection(hub: HubDouble, request: Request, slug: str) -> Answer:
    role, collection = hub.role(request), hub.collections.get(slug)
    if collection is None or (collection["private"] and role is None):
        raise Refusal(404, "Collection not found")
    return Answer(200, collection)


@route("api", "POST", "/api/collections/(?P<slug>[^/]+/[^/]+)/items")
def add_collection_item(hub: HubDouble, request: Request, slug: str) -> Answer:
    collection, asked = get_collection(hub, request, slug).body, request.json()
    hub.check_may_write(request, slug)
    if asked["item"]["type"] == "model":
        hub.readable(request, asked["item"]["id"])
    if any(item.items() >= asked["item"].items() for item in collection["items"]):
        raise Refusal(409, "This item is already in the collection")
    item = {"_id": git_sha1(asked["item"]["id"].encode())[:24], "position": len(collection["items"]), **asked["item"]}
    collection["items"].append(item | ({"note": {"text": asked["note"]}} if "note" in asked else {}))
    return Answer(200, collection)


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def blob_of(path: Path, lfs: bool | None = None) -> Blob:
    size = path.stat().st_size
    lfs = is_lfs(path.name, size) if lfs is None else lfs
    return Blob(path, size, sha256_of(path) if lfs else git_sha1(path.read_bytes()), lfs)


def is_lfs(name: str, size: int) -> bool:
    return size > 0 and (name.endswith(LFS_SUFFIXES) or size > LFS_ABOVE_BYTES)


def card_data(readme: str) -> Json:
    block = re.match(r"\s*---\r?\n(.*?)\r?\n---", readme, re.DOTALL)
    data = yaml.safe_load(block[1]) if block else None
    if not isinstance(data, (dict, type(None))):
        raise yaml.YAMLError("the metadata must be a mapping")
    return data or {}


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and stop of a `Range` header of one interval, which may lie outside the file; None for any other."""
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if asked is None or not any(asked.groups()):
        return None
    if not asked[1]:
        return max(size - int(asked[2]), 0), size
    return int(asked[1]), min(int(asked[2]) + 1, size) if asked[2] else size


# HTTP


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hub: HubDouble, name: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub, self.name, self.origin = hub, name, f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes: with Nagle the second waits for a delayed ACK
    timeout = 60
    server: Server

    def serve(self) -> None:
        hub, headers = self.server.hub, {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.server.name, self.command, self.path, headers)
        function, groups = find_route(request)
        with hub.lock:
            (hub.unknown if function is None else hub.requests).append(request)
            faults = (fault for fault in hub.faults if function is not None and fault.matches(request))
            fault = next(faults, Fault())
            fault.hits += 1
        hub.closing.wait(fault.seconds)
        try:
            self.receive(request, fault)
            self.send(request, fault.answer or self.answer(request, function, groups), fault)
        except (ConnectionError, TimeoutError):  # cut, or the client went away
            self.close_connection = True
        finally:
            if request.upload is not None:
                request.upload[0].unlink(missing_ok=True)

    do_GET = do_HEAD = do_POST = do_PUT = serve

    def receive(self, request: Request, fault: Fault) -> None:
        """Read the request's body: a PUT's into a file, another's into memory."""
        is_put, length = request.method == "PUT", int(self.headers.get("Content-Length", 0))
        path, digest = self.server.hub.folder / f"upload-{id(request)}", hashlib.sha256()
        with path.open("wb") if is_put else io.BytesIO() as target:
            request.upload = (path, "") if is_put else None
            for count in pieces(length, fault.cut_after if is_put else None, CHUNK_BYTES):
                chunk = self.rfile.read(count)
                request.bytes_received += len(chunk)
                if len(chunk) < count:
                    raise ConnectionAbortedError
                target.write(chunk)
                if is_put:
                    digest.update(chunk)
            if isinstance(target, io.BytesIO):
                request.body = target.getvalue()
        if is_put:
            self.cut_if_told(fault, length)
            request.upload = path, digest.hexdigest()

    def answer(self, request: Request, function: Callable[..., Answer] | None, groups: dict[str, str]) -> Answer:
        if function is None:
            return Answer(404, {"error": f"the double has no route for {request.method} {request.path}"})
        try:
            with self.server.hub.lock:
                return function(self.server.hub, request, **groups)
        except Refusal as refusal:
            return refusal.answer
        except Exception as error:
            self.server.hub.bugs.append(error)
            return Answer(500, {"error": f"a bug of the double: {error!r}"})

    def send(self, request: Request, answer: Answer, fault: Fault) -> None:
        with answer.open() as stream:
            size = stream.seek(0, io.SEEK_END)
            start, stop, request.status, headers = 0, size, answer.status, dict(answer.headers)
            asked = byte_range(request.range, size)
            if answer.file is not None and asked is not None and not fault.ignore_range:
                start, stop = asked
                request.status = 206 if start < stop else 416
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}" if start < stop else f"bytes */{size}"
            length = max(stop - start, 0)
            self.send_response(request.status)
            for name, value in {"Content-Length": str(length), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if request.method == "HEAD":
                return
            rate, cut_after = fault.bytes_per_second, fault.cut_after if request.method != "PUT" else None
            stream.seek(start)
            for count in pieces(length, cut_after, CHUNK_BYTES if rate is None else max(1, int(rate / 20))):
                request.bytes_sent += count  # before the write: a test may look as soon as the client has the last byte
                self.wfile.write(stream.read(count))
                if rate is not None:
                    self.server.hub.closing.wait(count / rate)
        if request.method != "PUT":
            self.cut_if_told(fault, length)

    def cut_if_told(self, fault: Fault, length: int) -> None:
        """Close the socket at once. While bytes of the request are unread, the kernel sends RST in either case."""
        if fault.cut_after is None or fault.cut_after > length:
            return
        if fault.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        raise ConnectionAbortedError

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def pieces(length: int, limit: int | None, piece: int) -> Iterator[int]:
    """The sizes in which `length` bytes, or `limit` if that is less, are passed on."""
    total = length if limit is None else min(length, limit)
    return (min(piece, total - start) for start in range(0, total, piece))
