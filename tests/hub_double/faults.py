"""What goes wrong when a test says so: requests that are answered otherwise, cut off or slowed down."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hub_double.messages import Answer, Request


@dataclass
class Fault:
    """What goes wrong with the next `times` requests (None: all) that match. A request meets the first live one."""

    method: str | None = None
    path: str = ""  # a regular expression, searched for in the path as sent
    times: int | None = 1
    answer: Answer | None = None
    cut_after: int | None = None
    reset: bool = False
    seconds: float = 0.0
    bytes_per_second: float | None = None
    ignore_range: bool = False
    hits: int = 0

    def matches(self, request: Request) -> bool:
        if self.hits == self.times or (self.cut_after is not None and request.method == "HEAD"):
            return False
        return self.method in (None, request.method) and re.search(self.path, request.path) is not None


class Faults:
    """The words in which a test says what goes wrong; the first live fault that matches a request meets it."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def fail(
        self, method: str | None = None, path: str = "", status: int = 500, body: Any = None,
        headers: Mapping[str, str] | None = None, times: int | None = 1,
    ) -> Fault:  # fmt: skip
        """Answer this instead; the request has no effect."""
        answer = Answer(status, {"error": f"{status}, as told"} if body is None else body, dict(headers or {}))
        return self.add_fault(Fault(method, path, times, answer=answer))

    def cut(
        self, method: str | None = None, path: str = "", after_bytes: int = 0, reset: bool = False,
        times: int | None = 1,
    ) -> Fault:  # fmt: skip
        """Close the connection (FIN, or RST with `reset`) after so many bytes of a body: a PUT's own, which then has no
        effect, else the answer's, whose request was carried out: the commit is made and the client does not know."""
        return self.add_fault(Fault(method, path, times, cut_after=after_bytes, reset=reset))

    def slow(
        self, method: str | None = None, path: str = "", seconds: float = 0.0, bytes_per_second: float | None = None,
        times: int | None = None,
    ) -> Fault:  # fmt: skip
        """Wait before reading the request's body, or send the answer's body at this rate."""
        return self.add_fault(Fault(method, path, times, seconds=seconds, bytes_per_second=bytes_per_second))

    def ignore_range(self, path: str = "", times: int | None = None) -> Fault:
        """Answer 200 and the whole file where a range is asked for."""
        return self.add_fault(Fault("GET", path, times, ignore_range=True))

    def add_fault(self, fault: Fault) -> Fault:
        self.faults.append(fault)
        return fault
