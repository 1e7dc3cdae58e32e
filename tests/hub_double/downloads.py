"""A file's bytes: from the API, or by a redirection from the storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub_double.messages import Answer, Refusal, Request
from hub_double.routes import route

if TYPE_CHECKING:
    from hub_double.hub import HubDouble


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
