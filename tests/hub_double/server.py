"""HTTP: requests read, handed to their route, answered; by range, and as a fault has it."""

from __future__ import annotations

import hashlib
import io
import os
import re
import socket
import struct
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from hub_double.faults import Fault
from hub_double.messages import CHUNK_BYTES, Answer, Refusal, Request
from hub_double.routes import find_route

if TYPE_CHECKING:
    from hub_double.hub import HubDouble


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hub: HubDouble, name: str, host: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub, self.name, self.origin = hub, name, f"http://{host}:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes: with Nagle the second waits for a delayed ACK
    timeout = 60
    server: Server

    def serve(self) -> None:
        hub, headers = self.server.hub, {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.server.name, self.command, self.path, headers)
        function, groups = find_route(request)
        with hub.lock:
            (hub.unknown if function is None else hub.requests).append(request)
            faults = (fault for fault in hub.faults if function is not None and fault.matches(request))
            fault = next(faults, Fault())
            fault.hits += 1
        hub.closing.wait(fault.seconds)
        try:
            self.receive(request, fault)
            self.send(request, fault.answer or self.answer(request, function, groups), fault)
        except (ConnectionError, TimeoutError):  # cut, or the client went away
            self.close_connection = True
        finally:
            if request.upload is not None:
                request.upload[0].unlink(missing_ok=True)

    do_GET = do_HEAD = do_POST = do_PUT = serve

    def receive(self, request: Request, fault: Fault) -> None:
        """Read the request's body: a PUT's into a file, another's into memory."""
        is_put, length = request.method == "PUT", int(self.headers.get("Content-Length", 0))
        path, digest = self.server.hub.folder / f"upload-{id(request)}", hashlib.sha256()
        with path.open("wb") if is_put else io.BytesIO() as target:
            request.upload = (path, "") if is_put else None
            for count in pieces(length, fault.cut_after if is_put else None, CHUNK_BYTES):
                chunk = self.rfile.read(count)
                request.bytes_received += len(chunk)
                if len(chunk) < count:
                    raise ConnectionAbortedError
                target.write(chunk)
                if is_put:
                    digest.update(chunk)
            if isinstance(target, io.BytesIO):
                request.body = target.getvalue()
        if is_put:
            self.cut_if_told(fault, length)
            request.upload = path, digest.hexdigest()

    def answer(self, request: Request, function: Callable[..., Answer] | None, groups: dict[str, str]) -> Answer:
        if function is None:
            return Answer(404, {"error": f"the double has no route for {request.method} {request.path}"})
        try:
            with self.server.hub.lock:
                return function(self.server.hub, request, **groups)
        except Refusal as refusal:
            return refusal.answer
        except Exception as error:
            self.server.hub.bugs.append(error)
            return Answer(500, {"error": f"a bug of the double: {error!r}"})

    def send(self, request: Request, answer: Answer, fault: Fault) -> None:
        with answer.open() as stream:
            size = stream.seek(0, io.SEEK_END)
            start, stop, request.status, headers = 0, size, answer.status, dict(answer.headers)
            asked = byte_range(request.range, size)
            if answer.file is not None and asked is not None and not fault.ignore_range:
                start, stop = asked
                request.status = 206 if start < stop else 416
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}" if start < stop else f"bytes */{size}"
            length = max(stop - start, 0)
            self.send_response(request.status)
            for name, value in {"Content-Length": str(length), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if request.method == "HEAD":
                return
            rate, cut_after = fault.bytes_per_second, fault.cut_after if request.method != "PUT" else None
            stream.seek(start)
            for count in pieces(length, cut_after, CHUNK_BYTES if rate is None else max(1, int(rate / 20))):
                request.bytes_sent += count  # before the write: a test may look as soon as the client has the last byte
                self.wfile.write(stream.read(count))
                if rate is not None:
                    self.server.hub.closing.wait(count / rate)
        if request.method != "PUT":
            self.cut_if_told(fault, length)

    def cut_if_told(self, fault: Fault, length: int) -> None:
        """Close the socket at once. While bytes of the request are unread, the kernel sends RST in either case."""
        if fault.cut_after is None or fault.cut_after > length:
            return
        if fault.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        raise ConnectionAbortedError

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and stop of a `Range` header of one interval, which may lie outside the file; None for any other."""
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if asked is None or not any(asked.groups()):
        return None
    if not asked[1]:
        return max(size - int(asked[2]), 0), size
    return int(asked[1]), min(int(asked[2]) + 1, size) if asked[2] else size


def pieces(length: int, limit: int | None, piece: int) -> Iterator[int]:
    """The sizes in which `length` bytes, or `limit` if that is less, are passed on."""
    total = length if limit is None else min(length, limit)
    return (min(piece, total - start) for start in range(0, total, piece))
