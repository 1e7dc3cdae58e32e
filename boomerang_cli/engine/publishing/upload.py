"""One folder sent to the Hub, and models gathered in a collection: everything goes through huggingface_hub."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi, ModelInfo, constants
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils.tqdm import enable_progress_bars

from boomerang_cli.engine.checkpoint.files import ask
from boomerang_cli.engine.checkpoint.hub_errors import hub_errors, plain, retried
from boomerang_cli.engine.checkpoint.hub_reading import be_quiet
from boomerang_cli.engine.errors import HubError
from boomerang_cli.engine.output.output_folder import temporary_folder
from boomerang_cli.engine.publishing.card import CARD_FILE, is_ours

MAIN = "main"
_WAITS_SECONDS = (1.0, 4.0)
"""Before an upload is begun again: huggingface_hub tries each request of it by itself, but for the commit."""


@dataclass(frozen=True)
class Destination:
    """Where and how a model is sent (see ``push.push`` for what the values mean)."""

    repo_id: str
    private: bool = False
    revision: str | None = None
    create_pr: bool = False
    message: str | None = None
    show_progress: bool = False

    @property
    def url(self) -> str:
        branch = "" if self.revision in (None, MAIN) else f"/tree/{self.revision}"
        return f"{constants.ENDPOINT}/{self.repo_id}{branch}"


@dataclass(frozen=True)
class Sent:
    """What an upload made: the branch or ``refs/pr/N``, its commit, and where to look at it.

    Attributes:
        changed: False where the Hub held all of it already, so that no commit was made.
    """

    revision: str
    commit: str
    url: str
    changed: bool = True


def check_token(repo_id: str) -> None:
    """Look whether there is a token that may write at all, before anything is made or sent.

    Raises:
        HubError: there is none, or it may only read.
    """
    be_quiet()
    with _upload_errors(repo_id, None):
        user = retried(lambda: HfApi().whoami())
    if ((user.get("auth") or {}).get("accessToken") or {}).get("role") == "read":
        raise HubError(f"cannot write to {repo_id}: the token may only read; `hf auth login` with one that may write")


@contextmanager
def writable_xet_cache() -> Iterator[None]:
    """Give huggingface_hub's fast transfer a temporary cache where its own may not be written.

    It keeps a log and what it has sent there, and complains on stdout, which is the result's, if it cannot.
    """
    cache = Path(constants.HF_XET_CACHE).absolute()
    nearest = next(folder for folder in (cache, *cache.parents) if ask(folder.exists))
    if constants.HF_HUB_DISABLE_XET or os.access(nearest, os.W_OK | os.X_OK):
        yield
        return
    with temporary_folder() as folder:
        os.environ["HF_XET_CACHE"] = str(folder)  # read when the first file is sent
        yield


def send(folder: Path, to: Destination) -> Sent:
    """Send what the Hub does not hold of a folder in one commit; a repository that is not there is made first.

    A card of ours does not replace one that somebody wrote into the repository.

    Raises:
        ModelNotFoundError: no such revision.
        HubError: the Hub refuses or fails, or the repository is public and should be private.
    """
    be_quiet()
    if to.show_progress:
        enable_progress_bars()
    api = HfApi()
    with _upload_errors(to.repo_id, to.revision):
        _make_ready(api, to)
        # At one commit: between two requests somebody else may write.
        before = retried(lambda: api.model_info(to.repo_id, revision=to.revision))
        keeps_card = is_ours(_text(folder / CARD_FILE)) and _has_own_card(api, before)
        commit = _upload(api, folder, to, without=[CARD_FILE] if keeps_card else [])
    if commit.pr_url:
        return Sent(str(commit.pr_revision), commit.oid, commit.pr_url)
    return Sent(to.revision or MAIN, commit.oid, to.url, changed=commit.oid != before.sha)


def gather(repo_ids: Sequence[str], *, title: str, namespace: str, private: bool) -> str:
    """Put models into the collection of that title, made if it is new, and return its URL (errors as in send)."""
    api = HfApi()
    with _upload_errors(f"the collection {title} of {namespace}", None):
        collection = retried(
            lambda: api.create_collection(
                title, namespace=namespace, description="Sizes of one model family", private=private, exists_ok=True
            )
        )
        for repo_id in repo_ids:
            retried(lambda one=repo_id: api.add_collection_item(collection.slug, one, "model", exists_ok=True))  # type: ignore[misc]
    return f"{constants.ENDPOINT}/collections/{collection.slug}"


def _make_ready(api: HfApi, to: Destination) -> None:
    """See to it that the repository and the branch are there."""
    try:
        info = retried(lambda: api.model_info(to.repo_id))
    except RepositoryNotFoundError:
        retried(lambda: api.create_repo(to.repo_id, private=to.private or None, exist_ok=True))
    else:
        if to.private and not info.private:
            raise HubError(f"{to.repo_id} is there and is public: make it private on its page, or leave --private out")
    if to.revision and to.revision != MAIN and not to.revision.startswith("refs/"):
        branch = to.revision
        retried(lambda: api.create_branch(to.repo_id, branch=branch, exist_ok=True))


def _has_own_card(api: HfApi, info: ModelInfo) -> bool:
    if not any(sibling.rfilename == CARD_FILE for sibling in info.siblings or []):
        return False
    with temporary_folder() as scratch:  # past the cache, which need not be writable
        card = retried(lambda: api.hf_hub_download(info.id, CARD_FILE, revision=info.sha, local_dir=scratch))
        return not is_ours(_text(Path(card)))


def _upload(api: HfApi, folder: Path, to: Destination, *, without: list[str]) -> CommitInfo:
    def upload() -> CommitInfo:
        return api.upload_folder(
            repo_id=to.repo_id,
            folder_path=folder,
            commit_message=to.message or "Upload with boomerang",
            revision=to.revision,
            create_pr=to.create_pr,
            ignore_patterns=list(without),
        )

    # Sent twice, a folder makes one commit: what the Hub holds already is left out. Pull requests would be two.
    return upload() if to.create_pr else retried(upload, waits=_WAITS_SECONDS)


@contextmanager
def _upload_errors(repo_id: str, revision: str | None) -> Iterator[None]:
    with hub_errors(repo_id, revision, doing="write to"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about somebody's own card
        try:
            yield
        except RuntimeError as error:  # of a file's upload, which was tried again already
            raise error.__cause__ or error from None
        except ValueError as error:  # of huggingface_hub, for a card or an object that the Hub does not take
            raise HubError(f"cannot write to {repo_id}: {plain(' '.join(str(error).split()))}") from error


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""
