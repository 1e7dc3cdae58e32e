"""Byte ranges of files on the Hub, read through huggingface_hub's own session."""

from __future__ import annotations

import re
import threading
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from boomerang_cli.engine.checkpoint.files import RemoteFile
from boomerang_cli.engine.checkpoint.hub_errors import NetworkError, hub_errors, retried
from boomerang_cli.engine.checkpoint.tensors import LENGTH_BYTES, Tensor, header_length, parse_header
from boomerang_cli.engine.errors import CheckpointError, HubError
from boomerang_cli.engine.waiting import waiting

_HEADER_GUESS_BYTES = 100_000
"""Most headers are shorter, and come in one request; huggingface_hub guesses the same."""


def read_remote_header(file: RemoteFile) -> dict[str, Tensor]:
    """Read the header of a safetensors file on the Hub.

    Raises:
        CheckpointError: whatever keeps the file from being well formed.
        HubError: the Hub refuses or fails.
    """
    reader = RangeReader()
    with waiting(f"waiting for the Hub, to read the header of {file}"):
        beginning = reader.read(file, 0, min(file.size_bytes, _HEADER_GUESS_BYTES))
        stop = LENGTH_BYTES + header_length(bytes(beginning[:LENGTH_BYTES]), file)
        if stop > len(beginning):
            beginning += reader.read(file, len(beginning), stop)
    return parse_header(bytes(beginning[LENGTH_BYTES:stop]), file)


class RangeReader:
    """Reads ranges of files, from several threads if need be.

    The Hub is asked once where the bytes of a file lie, and again when that address has run out. It is addressed by
    the commit's id, so that no two commits are ever mixed. The token goes to the Hub alone.

    Args:
        stopped: ends reading, and the waiting between attempts.
    """

    def __init__(self, stopped: threading.Event | None = None) -> None:
        self._stopped = stopped or threading.Event()
        self._lock = threading.Lock()
        self._addresses: dict[RemoteFile, str] = {}

    def read(self, file: RemoteFile, start: int, stop: int) -> bytearray:
        """Return bytes ``start`` to ``stop``; after a cut, the attempt goes on where the bytes ended.

        Raises:
            HubError: the Hub refuses, fails again and again, or serves something else than the range.
            CheckpointError: the file is not the one that was listed.
        """
        data = bytearray()
        with hub_errors(file.repo_id, file.commit, tells=False):
            while len(data) < stop - start:  # an attempt that brings bytes before it fails earns a new set of attempts
                retried(lambda: self._receive(file, start, stop, data), stopped=self._stopped)
        return data

    def _receive(self, file: RemoteFile, start: int, stop: int, data: bytearray) -> None:
        """Append to ``data`` what is missing of a range. Returns early if the connection is cut after some bytes."""
        first, received = start + len(data), len(data)
        address = self._address(file)
        headers = {"Range": f"bytes={first}-{stop - 1}", "Accept-Encoding": "identity"}
        if _on_the_hub(address):
            headers = {**build_hf_headers(), **headers}
        try:
            timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
            with get_session().stream("GET", address, headers=headers, timeout=timeout) as response:
                hf_raise_for_status(response)
                _check_range(response, file, first, stop)
                for chunk in response.iter_raw():
                    if self._stopped.is_set():
                        raise ConnectionError("stopped")
                    data += chunk
        except HfHubHTTPError as error:
            self._forget(file)
            if _on_the_hub(address) or error.response.status_code not in (401, 403, 404, 410):
                raise
            raise ConnectionError(f"the address of {file} has run out") from error
        except NetworkError:
            self._forget(file)
            if len(data) == received:
                raise
        if len(data) > stop - start:
            raise HubError(f"cannot read {file}: the Hub serves more bytes than it was asked for")
        if len(data) == received:
            raise ConnectionError("the answer was empty")

    def _address(self, file: RemoteFile) -> str:
        with self._lock:
            if file not in self._addresses:
                self._addresses[file] = _find(file)
            return self._addresses[file]

    def _forget(self, file: RemoteFile) -> None:
        with self._lock:
            self._addresses.pop(file, None)


def _find(file: RemoteFile) -> str:
    """Ask the Hub where a file's bytes lie, and check that it is the file that was listed."""
    url = hf_hub_url(file.repo_id, file.name, revision=file.commit)
    found = get_hf_file_metadata(url)
    if found.commit_hash != file.commit or found.size != file.size_bytes:
        raise CheckpointError(
            f"{file} is not what the Hub listed: {found.size} bytes at commit {found.commit_hash}, "
            f"not {file.size_bytes} at {file.commit}"
        )
    return found.location


def _on_the_hub(address: str) -> bool:
    """Tell whether an address is the Hub's own, not its storage's: only there may the token go."""
    return _origin(address) == _origin(constants.ENDPOINT)


def _origin(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _check_range(response: Any, file: RemoteFile, first: int, stop: int) -> None:
    if response.status_code != 206:
        raise HubError(f"cannot read parts of {file}: the Hub serves it whole (try --download)")
    served = response.headers.get("content-range", "")
    if re.sub(r"\s+", " ", served) != f"bytes {first}-{stop - 1}/{file.size_bytes}":
        raise HubError(
            f"cannot read {file}: asked for bytes {first}-{stop - 1}/{file.size_bytes}, the Hub serves {served!r}"
        )
