"""Addresses of the Hub's pages, as people copy them from a browser."""

from __future__ import annotations

import os
import re

HOSTS = ("https://huggingface.co", "https://www.huggingface.co", "https://hf.co")


def named_by_address(text: str, kind: str = "") -> str:
    """Return ``owner/name[@revision]`` for the address of a repository's page, any other text as it is.

    ``/tree/REVISION`` names a branch, a tag or a commit. An address of a file or a folder in a repository, or of
    another kind of repository, is left as it is: it would be guessed what is meant.

    Args:
        kind: what stands before ``owner/name`` in the address: nothing for a model, ``datasets/`` for a dataset.
    """
    if "://" not in text:
        return text
    hosts = "|".join(re.escape(host) for host in (*HOSTS, (os.environ.get("HF_ENDPOINT") or HOSTS[0]).rstrip("/")))
    page = rf"(?:{hosts})/{kind}([\w.-]+/[\w.-]+?)(?:/tree/([^/?#\s]+))?/?(?:[?#].*)?"
    if not (match := re.fullmatch(page, text)) or (not kind and match[1].startswith(("datasets/", "spaces/"))):
        return text
    from urllib.parse import unquote

    return f"{match[1]}@{unquote(match[2])}" if match[2] else match[1]
