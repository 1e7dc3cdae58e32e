"""Changes to a repository: made, committed to, branched."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from hub_double.blobs import GIT_ATTRIBUTES
from hub_double.messages import Answer, Refusal, Request
from hub_double.repos import Repo
from hub_double.routes import route

if TYPE_CHECKING:
    from hub_double.hub import HubDouble


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
    private = asked.get("visibility") == "private" or bool(asked.get("private"))  # older clients' word
    repo = hub.repos[repo_id] = Repo(repo_id, private=private)
    repo.commit("refs/heads/main", {".gitattributes": hub.keep(GIT_ATTRIBUTES)}, "initial commit")
    return Answer(201, {"url": url, "name": repo_id})


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


@route("api", "POST", "{model}/(?P<kind>branch|tag)/{name}")
def create_ref(hub: HubDouble, request: Request, repo_id: str, kind: str, name: str) -> Answer:
    repo, asked = hub.writable(request, repo_id), request.json()
    ref = f"refs/heads/{name}" if kind == "branch" else f"refs/tags/{asked['tag']}"
    if ref in repo.refs:
        raise Refusal(409, f"Reference already exists: {ref}")
    repo.refs[ref] = repo.at(asked.get("startingPoint", "main") if kind == "branch" else name)
    return Answer()
