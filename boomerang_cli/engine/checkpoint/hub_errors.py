"""What goes wrong with the Hub: tried again where that may help, and told in one line."""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from boomerang_cli.engine.errors import BoomerangError, HubError, ModelNotFoundError
from boomerang_cli.engine.waiting import waiting

Result = TypeVar("Result")

NetworkError: type[Exception] = HfHubHTTPError.__bases__[0]
"""Of the HTTP library that huggingface_hub uses, httpx or httpx2: the base of a lost, refused or slow connection."""

WAITS_SECONDS = (1.0, 2.0, 4.0, 8.0, 8.0)
"""Between attempts, as huggingface_hub's own ``http_backoff`` waits."""
_LONGEST_WAIT_SECONDS = 300.0
"""The Hub counts requests over five minutes: a longer ``Retry-After`` is told instead of waited for."""
_PASSING_STATUS_CODES = (408, 429, 500, 502, 503, 504)


def retried(
    call: Callable[[], Result], *, waits: Sequence[float] | None = None, stopped: threading.Event | None = None
) -> Result:
    """Return what ``call`` returns, called again after failures that pass; it must do no harm to do it twice.

    Args:
        waits: seconds before each further attempt, ``WAITS_SECONDS`` by default; the Hub's ``Retry-After`` comes first.
        stopped: ends the waiting.
    """
    waits = WAITS_SECONDS if waits is None else waits
    try:
        return call()
    except (NetworkError, ConnectionError, LocalEntryNotFoundError) as error:
        seconds = _seconds_to_wait(error, waits[0]) if waits else None
        if seconds is None:
            raise
        # Whoever can be stopped reads in several threads, and shows by itself how far that is.
        with nullcontext() if stopped else waiting(f"waiting {seconds:.0f} s to ask the Hub again ({plain(error)})"):
            if (stopped or threading.Event()).wait(seconds):
                raise
    return retried(call, waits=waits[1:], stopped=stopped)


def _seconds_to_wait(error: Exception, wait: float) -> float | None:
    """Return how long to wait before another attempt, or None where none would help."""
    if isinstance(error, LocalEntryNotFoundError):  # neither in the cache nor to be had: the cause tells why
        return _seconds_to_wait(error.__cause__, wait) if isinstance(error.__cause__, Exception) else None
    if isinstance(error, OfflineModeIsEnabled) or _is_refusal_of_xet(error):
        return None
    if not isinstance(error, HfHubHTTPError):
        return wait
    if error.response.status_code not in _PASSING_STATUS_CODES:
        return None
    asked = _retry_after(error)
    return wait if asked is None else asked if asked <= _LONGEST_WAIT_SECONDS else None


def _is_refusal_of_xet(error: Exception) -> bool:
    """Tell whether huggingface_hub's fast transfer was refused: it says so in the text of a ConnectionError alone."""
    return isinstance(error, ConnectionError) and re.search(r"\b40[134]\b", str(error)) is not None


def _retry_after(error: HfHubHTTPError) -> float | None:
    """Return the seconds that the Hub asks to wait: ``Retry-After: 30``, or ``RateLimit: "api";r=0;t=30``."""
    headers = error.response.headers
    limit = re.search(r";\s*r=0\s*;\s*t=(\d+)", headers.get("ratelimit", ""))
    text = limit[1] if limit else headers.get("retry-after", "")
    return float(text) if re.fullmatch(r"\d{1,9}", text) else None


@contextmanager
def hub_errors(repo_id: str, revision: str | None = None, *, doing: str = "read", tells: bool = True) -> Iterator[None]:
    """Turn what huggingface_hub raises into the engine's errors, and tell of it if it takes long.

    Args:
        doing: what is done with the repository, for the message: ``read``, ``write to``.
        tells: of waiting; not where bytes are counted while they come.

    Raises:
        ModelNotFoundError: the repository or the revision does not exist, or is not open to this user.
        HubError: anything else.
    """
    try:
        with waiting(f"waiting for the Hub, to {doing} {repo_id}") if tells else nullcontext():
            yield
    except (NetworkError, OSError) as error:
        raise _explained(error, repo_id, revision, doing) from error


def _explained(error: Exception, repo_id: str, revision: str | None, doing: str) -> BoomerangError:
    if isinstance(error, GatedRepoError):
        return ModelNotFoundError(f"{repo_id} is gated: ask for access on its page, then `hf auth login`")
    if isinstance(error, RevisionNotFoundError):
        return ModelNotFoundError(f"{repo_id} has no revision {revision or 'main'}")
    if isinstance(error, RepositoryNotFoundError):
        return ModelNotFoundError(
            f"no model {repo_id}, neither a local folder nor on the Hub (if it is private: `hf auth login`)"
        )
    if isinstance(error, LocalTokenNotFoundError):
        return HubError(f"cannot {doing} {repo_id} without a token: `hf auth login`, or set HF_TOKEN")
    if isinstance(error, OfflineModeIsEnabled):
        return HubError(f"cannot {doing} {repo_id}: HF_HUB_OFFLINE is set")
    if isinstance(error, HfHubHTTPError):
        return HubError(f"cannot {doing} {repo_id}: {_status_in_words(error)}")
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        return _explained(error.__cause__, repo_id, revision, doing)
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
        where = f"{error.strerror} ({error.filename or 'on this disk'})"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            where += ": set HF_HOME to a folder that may be written"
        return HubError(f"cannot {doing} {repo_id}: {where}")
    return HubError(f"cannot {doing} {repo_id}: the connection to the Hub fails ({plain(error)})")


def _status_in_words(error: HfHubHTTPError) -> str:
    status, said = error.response.status_code, f" ({plain(error.server_message)})" if error.server_message else ""
    if status == 401:
        return f"the Hub does not accept the token, or wants one: `hf auth login`, or set HF_TOKEN{said}"
    if status == 403:
        return f"the token has no right to{said}: `hf auth login` with one that has"
    if status == 429:
        asked = _retry_after(error)
        later = f"{asked:.0f} seconds" if asked is not None else "a while"
        return f"too many requests, the Hub asks to wait {later}"
    if status >= 500:
        return f"the Hub fails with status {status}{said}: try again later"
    return f"the Hub answers {status}{said}"


def plain(error: object) -> str:
    """Return the first line of a message, without what is secret: signatures of addresses, tokens."""
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return re.sub(r"hf_\w{6,}", "hf_…", re.sub(r"\?[^\s'\"]*", "", line))[:200].rstrip(".")
