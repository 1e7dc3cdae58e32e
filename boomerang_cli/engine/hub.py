"""Models on the Hugging Face Hub: ids, revisions, downloads into huggingface_hub's cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from boomerang_cli.engine.errors import ModelNotFoundError

# Weights in other formats stay where they are, and so does code.
DOWNLOADED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "LICENSE*", "NOTICE*")
NOT_DOWNLOADED = ("*/*",)


@dataclass(frozen=True)
class Snapshot:
    """A repository at one commit, in the local cache."""

    repo_id: str
    revision: str
    folder: Path


def is_repo_id(model: str) -> bool:
    """Tell whether ``model`` has the form ``owner/name[@revision]``."""
    return re.fullmatch(r"[\w.-]*\w[\w.-]*/[\w.-]*\w[\w.-]*(@[^@\s]+)?", model) is not None and ".." not in model


def download(model: str) -> Snapshot:
    """Bring ``owner/name[@revision]`` into the cache (``HF_HOME``, ``HF_TOKEN``, ``HF_HUB_OFFLINE`` are honoured).

    Raises:
        ModelNotFoundError: the repository or revision does not exist, is not open to this user, or is out of reach.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    repo_id, _, revision = model.partition("@")
    try:
        folder = snapshot_download(
            repo_id, revision=revision or None, allow_patterns=list(DOWNLOADED), ignore_patterns=list(NOT_DOWNLOADED)
        )
    except GatedRepoError:
        raise ModelNotFoundError(f"{repo_id} is gated: ask for access on its page, then `hf auth login`") from None
    except RevisionNotFoundError:
        raise ModelNotFoundError(f"{repo_id} has no revision {revision or 'main'}") from None
    except RepositoryNotFoundError:
        raise ModelNotFoundError(
            f"no model {repo_id}, neither a local folder nor on the Hub (if it is private: `hf auth login`)"
        ) from None
    except LocalEntryNotFoundError:
        raise ModelNotFoundError(
            f"{model} is not in the local cache, and the Hub is out of reach (or HF_HUB_OFFLINE is set)"
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise ModelNotFoundError(f"{model} could not be downloaded: {str(error).splitlines()[0]}") from None
    return Snapshot(repo_id=repo_id, revision=Path(folder).name, folder=Path(folder))
