"""Which function answers a request: found by server, method and path."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from hub_double.messages import Answer, Request

ROUTES: list[tuple[str, str, re.Pattern[str], Callable[..., Answer]]] = []
REPO_ID = r"(?P<repo_id>[\w.-]+(?:/[\w.-]+)?)"


def route(server: str, method: str, path: str) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Register a function of the Hub, the request and the groups of the path."""

    def register(function: Callable[..., Answer]) -> Callable[..., Answer]:
        pattern = path.replace("{model}", "/api/models/{repo}").replace("{repo}", REPO_ID)
        ROUTES.append((server, method, re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", pattern)), function))
        return function

    return register


def find_route(request: Request) -> tuple[Callable[..., Answer] | None, dict[str, str]]:
    path, method = urlsplit(request.path).path, request.method.replace("HEAD", "GET")
    for server, verb, pattern, function in ROUTES:
        if (server, verb) == (request.server, method) and (match := pattern.fullmatch(path)):
            return function, {name: unquote(text or "") for name, text in match.groupdict().items()}
    return None, {}
