"""Models on the Hugging Face Hub: ids, revisions, what a repository holds, and what of it is in the cache."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Any

from boomerang_cli.engine.checkpoint.companions import is_companion
from boomerang_cli.engine.checkpoint.files import TEMPLATES_FOLDER, File, RemoteFile, SourceFile, files_of
from boomerang_cli.engine.checkpoint.foreign import refuse_adapter
from boomerang_cli.engine.checkpoint.json_files import read_json
from boomerang_cli.engine.checkpoint.weights import CONFIG_FILE, SINGLE_FILE, entry_file, is_index, shard_files
from boomerang_cli.engine.errors import CheckpointError, HubError, ModelNotFoundError
from boomerang_cli.engine.quiet import keep_quiet

# What is read before a plan can be made, beside the headers of the weights.
_READ_AT_ONCE = (CONFIG_FILE, "student_config.json", "README.md")

DownloadCallback = Callable[[str, int, int], None]
"""Called with the repository, the bytes that are there, and all bytes of it as far as they are known."""
on_download: DownloadCallback | None = None
"""Who wants to hear of whole models on their way into the cache: every command can cause one, the first time."""

_LONGEST_ID = 500
"""Of a repository and its revision: the Hub takes 96 characters for the one, git 255 for the other."""

_WAITS_SECONDS = (1.0, 2.0)
"""Before a look-up is given up: whoever is offline should not wait long to hear it."""


@dataclass(frozen=True)
class Snapshot:
    """A repository at one commit.

    Attributes:
        folder: in the cache; it holds the JSON files at least.
        files: by name; those of the cache as files of this disk.
    """

    repo_id: str
    revision: str
    folder: Path
    files: Mapping[str, File]


def is_repo_id(model: str) -> bool:
    """Tell whether ``model`` is meant as ``owner/name[@revision]``; :func:`check_repo_id` is stricter."""
    if len(model) > _LONGEST_ID:  # also, the pattern takes quadratic time
        return False
    return re.fullmatch(r"[\w.-]*\w[\w.-]*/[\w.-]*\w[\w.-]*(@[^@\s]+)?", model) is not None and ".." not in model


def check_repo_id(repo_id: str) -> None:
    """Check a repository's name as the Hub does, before anything is asked or sent.

    Raises:
        ModelNotFoundError: the Hub would not take it; says why.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        why = str(error).rstrip(".")
        raise ModelNotFoundError(f"{repo_id!r} is no name of a repository: {why}", usage=True) from None
    if "/" not in repo_id:
        raise ModelNotFoundError(f"{repo_id!r} is no name of a repository: give owner/name", usage=True)


def locate(model: str) -> Snapshot:
    """Find a repository's commit and files; no weights are fetched, and none that are in the cache are asked for.

    Raises:
        ModelNotFoundError: the repository or revision does not exist, or is not open to this user.
        CheckpointError: it holds no ``config.json``.
        HubError: the Hub refuses or fails, or is out of reach and the cache holds no such model.
    """
    from huggingface_hub import HfApi, hf_hub_download, is_offline_mode

    from boomerang_cli.engine.checkpoint.hub_errors import hub_errors, retried

    repo_id, revision = _split(model)
    be_quiet()
    if is_offline_mode():
        return _cached(repo_id, revision, "HF_HUB_OFFLINE is set")
    try:
        with hub_errors(repo_id, revision):
            info = retried(
                lambda: HfApi().model_info(repo_id, revision=revision, files_metadata=True), waits=_WAITS_SECONDS
            )
            commit, siblings = str(info.sha), info.siblings or []
            listed = {each.rfilename: int(each.size or 0) for each in siblings if _is_in_sight(each.rfilename)}
            digests = {each.rfilename: each.lfs.sha256 for each in siblings if each.lfs}
            refuse_adapter(listed, repo_id, is_model=CONFIG_FILE in listed)
            if CONFIG_FILE not in listed:
                raise CheckpointError(f"{repo_id} has no {CONFIG_FILE}: it is no transformers model")

            def fetch(name: str) -> Path:
                return Path(retried(lambda: hf_hub_download(repo_id, name, revision=commit)))

            folder = fetch(CONFIG_FILE).parent
            entry = entry_file(listed, read_json(folder / CONFIG_FILE), repo_id)
            for name in (*_READ_AT_ONCE, *([entry] if entry and is_index(entry) else [])):
                if name in listed:
                    fetch(name)
    except HubError as error:
        return _cached(repo_id, revision, str(error))
    files = {
        name: _file(RemoteFile(repo_id, commit, name, size, digests.get(name))) for name, size in sorted(listed.items())
    }
    return Snapshot(repo_id, commit, folder, files)


def download(model: str) -> Snapshot:
    """Bring ``owner/name[@revision]`` into the cache (``HF_HOME``, ``HF_TOKEN``, ``HF_HUB_OFFLINE`` are honoured).

    Raises:
        ModelNotFoundError, HubError: as :func:`locate`.
    """
    from huggingface_hub import is_offline_mode, snapshot_download

    from boomerang_cli.engine.checkpoint.hub_errors import hub_errors, retried

    repo_id, revision = _split(model)
    be_quiet()
    if is_offline_mode():
        return _cached(repo_id, revision, "HF_HUB_OFFLINE is set")
    found = locate(model)
    wanted = _wanted(found)
    if not any(isinstance(found.files.get(name), RemoteFile) for name in wanted):
        return found
    with hub_errors(repo_id, revision, tells=False):
        folder = Path(
            retried(
                lambda: snapshot_download(
                    repo_id,
                    revision=revision,
                    allow_patterns=[escape(name) for name in wanted],
                    tqdm_class=_told(repo_id),
                ),
                waits=_WAITS_SECONDS,
            )
        )
    if folder.name != found.revision:
        raise HubError(f"{repo_id} changed while it was fetched: run the command again")
    return Snapshot(repo_id, found.revision, folder, {**found.files, **files_of(folder)})


def fetch_file(file: RemoteFile) -> Path:
    """Bring one small file into the cache, and return its path there (errors as in :func:`locate`)."""
    from huggingface_hub import hf_hub_download

    from boomerang_cli.engine.checkpoint.hub_errors import hub_errors, retried

    with hub_errors(file.repo_id, file.commit):
        path = Path(retried(lambda: hf_hub_download(file.repo_id, file.name, revision=file.commit)))
    if path.stat().st_size != file.size_bytes:
        raise HubError(f"{file} has {path.stat().st_size} bytes, the Hub listed {file.size_bytes}")
    return path


def _told(repo_id: str) -> Any:
    """Return a bar for huggingface_hub that draws nothing, and tells ``on_download`` of bytes."""
    from huggingface_hub.utils.tqdm import tqdm

    class Told(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "disable": True})  # type: ignore[no-untyped-call]
            self.counts = options.get("unit") == "B" and options.get("name") == "huggingface_hub.snapshot_download"
            self.n, self.total = options.get("initial", 0), options.get("total")

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if self.counts and on_download is not None:
                on_download(repo_id, int(self.n), int(self.total or 0))

    return Told


def be_quiet() -> None:
    """Leave the terminal to the command: no bar of huggingface_hub's, and no warning about what is tried again."""
    keep_quiet("huggingface_hub")


def _split(model: str) -> tuple[str, str | None]:
    repo_id, _, revision = model.partition("@")
    check_repo_id(repo_id)
    return repo_id, revision or None


def _is_in_sight(name: str) -> bool:
    """Tell whether a reader looks at a file: folders in a repository are no part of the model, but for templates."""
    return "/" not in name or (name.startswith(f"{TEMPLATES_FOLDER}/") and name.count("/") == 1)


def _wanted(snapshot: Snapshot) -> set[str]:
    """Return the names of the files that are the model, weights and all; what is set aside is not fetched."""
    return {name for name in snapshot.files if is_companion(name)} | {*_READ_AT_ONCE, *_weights_of(snapshot)}


def _weights_of(snapshot: Snapshot) -> set[str]:
    """Return the names of the weights files that a model should have, and of their index."""
    entry = entry_file(snapshot.files, read_json(snapshot.folder / CONFIG_FILE), snapshot.repo_id) or SINGLE_FILE
    if not is_index(entry) or entry not in snapshot.files:
        return {entry}
    return {entry, *shard_files(read_json(snapshot.folder / entry), f"{snapshot.repo_id}/{entry}")}


def _file(file: RemoteFile) -> File:
    """Return a file of the Hub as the one of this disk that the cache holds, if it does."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(file.repo_id, file.name, revision=file.commit)
    within = str(PurePosixPath(file.name).parent)
    return SourceFile.of(Path(cached), "" if within == "." else within) if isinstance(cached, str) else file


def _cached(repo_id: str, revision: str | None, why: str) -> Snapshot:
    """Return the snapshot that the cache holds of a revision (errors as in :func:`locate`)."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repo_id, CONFIG_FILE, revision=revision)
    if not isinstance(config, str):
        at = f" at revision {revision}" if revision else ""
        raise HubError(f"{repo_id}{at} is not in the local cache, and {why}")
    folder = Path(config).parent
    snapshot = Snapshot(repo_id, folder.name, folder, files_of(folder))
    if missing := _weights_of(snapshot) - snapshot.files.keys():
        raise HubError(f"the local cache holds {repo_id} without {min(missing)}, and {why}")
    return snapshot
