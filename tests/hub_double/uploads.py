"""LFS objects on their way in: asked for, sent whole or in parts, checked."""

from __future__ import annotations

import fnmatch
import shutil
from typing import TYPE_CHECKING

from hub_double.blobs import is_lfs, sha256_of
from hub_double.messages import CHUNK_BYTES, Answer, Json, Refusal, Request
from hub_double.routes import route

if TYPE_CHECKING:
    from hub_double.hub import HubDouble


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
