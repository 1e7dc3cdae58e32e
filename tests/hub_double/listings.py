"""What a repository says of itself: its card, its branches, its files page by page."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

import yaml

from hub_double.blobs import git_sha1
from hub_double.card import card_data
from hub_double.messages import Answer, Json, Refusal, Request
from hub_double.repos import Commit
from hub_double.routes import route

if TYPE_CHECKING:
    from hub_double.hub import HubDouble


@route("api", "GET", "{model}/refs")
def list_refs(hub: HubDouble, request: Request, repo_id: str) -> Answer:
    answer: Json = {"branches": [], "tags": [], "pullRequests": [], "converts": []}
    kinds = {"refs/heads/": "branches", "refs/tags/": "tags", "refs/pr/": "pullRequests"}
    for ref, head in hub.readable(request, repo_id).refs.items():
        prefix = next(prefix for prefix in kinds if ref.startswith(prefix))
        answer[kinds[prefix]].append({"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": head.oid})
    return Answer(200, answer)


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
