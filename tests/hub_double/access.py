"""Who may do what: by the token's role, the repository's owner, and the signature of a link."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from hub_double.blobs import git_sha1
from hub_double.messages import Answer, Redirection, Refusal, Request
from hub_double.repos import Repo
from hub_double.routes import route

if TYPE_CHECKING:
    from hub_double.hub import HubDouble
    from hub_double.server import Server


class Access:
    """The Hub's part that knows tokens and links, and refuses."""

    user = "tester"
    organizations = ("tester-org",)
    token = "hf_double_token_that_writes"
    read_token = "hf_double_token_that_reads"

    def __init__(self, folder: Path) -> None:
        self.folder = folder  # its random name is the secret that signs
        self.repos: dict[str, Repo] = {}
        self.renamed: dict[str, str] = {}  # new ids by former ones, to which the Hub redirects
        self.granted: set[str] = set()  # private and gated repos of others that both tokens may read

    def role(self, request: Request) -> str | None:
        """The token's role, "write" or "read"; None without a token."""
        if request.token not in (roles := {None: None, self.token: "write", self.read_token: "read"}):
            raise Refusal(401, "Invalid credentials in Authorization header")
        return roles[request.token]

    def is_ours(self, repo_id: str) -> bool:
        return repo_id.split("/")[0] in (self.user, *self.organizations)

    def readable(self, request: Request, repo_id: str, contents: bool = False) -> Repo:
        """The repo, or a refusal; anybody may list a gated repo, not read its files' `contents` [mem]."""
        if repo_id in self.renamed:
            raise Redirection(request.path.replace(repo_id, self.renamed[repo_id], 1))
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


@route("api", "GET", "/api/whoami-v2")
def whoami(hub: HubDouble, request: Request) -> Answer:
    if (role := hub.role(request)) is None:
        raise Refusal(401, "Invalid username or password.")
    organizations = [{"type": "org", "name": name, "roleInOrg": "write"} for name in hub.organizations]
    auth = {"type": "access_token", "accessToken": {"displayName": "double", "role": role}}
    return Answer(200, {"type": "user", "name": hub.user, "orgs": organizations, "auth": auth})
