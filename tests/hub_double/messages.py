"""What goes over the wire: a request as it arrived, and the answer or the refusal to it."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]
CHUNK_BYTES = 1 << 20


@dataclass
class Request:
    """One request as it arrived. The counts are of bodies; `bytes_sent` is what was handed to the socket."""

    server: str  # "api" or "storage"
    method: str
    path: str  # as sent: quoted, with the query
    headers: dict[str, str]  # names in lower case
    body: bytes = b""  # the API's alone
    status: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    upload: tuple[Path, str] | None = None  # the file that the storage received and its SHA-256, until it is answered

    @property
    def range(self) -> str | None:
        return self.headers.get("range")

    @property
    def token(self) -> str | None:
        return self.headers.get("authorization", "").removeprefix("Bearer ") or None

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query)

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[0].lower() in ("1", "true")

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    status: int = 200
    body: Any = b""  # bytes, a string, or what JSON can hold
    headers: dict[str, str] = field(default_factory=dict)
    file: Path | None = None  # served instead of `body`, by range if one is asked for

    def open(self) -> io.BufferedIOBase:
        if self.file is not None:
            return self.file.open("rb")
        text = self.body if isinstance(self.body, (bytes, str)) else json.dumps(self.body)
        return io.BytesIO(text if isinstance(text, bytes) else text.encode())


class Refusal(Exception):
    def __init__(self, status: int, message: str, code: str = "", headers: Json | None = None, **body: str) -> None:
        named = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer = Answer(status, {"error": message, **body}, named | (headers or {}))


class Redirection(Refusal):
    """A repository has another name now; the Hub answers with a path of its own [mem]."""

    def __init__(self, path: str) -> None:
        self.answer = Answer(307, f"Temporary Redirect. Redirecting to {path}", {"Location": path})
