# SPDX-License-Identifier: LGPL-2.1-or-later
"""HTTP on the wire: listeners that can be stopped and started, requests, answers, and every way of
answering badly. What the answers say is the services' affair (vault.py, identity.py, metadata.py).
"""
import collections
import json
import socket
import socketserver
import ssl
import struct
import threading
import time
import traceback
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Callable, Optional

from faults import Fault, Faults

BODY_MAX_BYTES = 1024 * 1024  # far above the largest secret or key
IDLE_SECONDS = 120            # a client may keep its connection that long, as the service allows


@dataclass
class Request:
    service: str
    method: str
    host: str
    path: str
    query: list[tuple[str, str]]
    headers: Any
    body: bytes
    client: str
    admin: bool = False  # comes from the test itself: permissions do not apply

    def one(self, name: str, default: str = "") -> str:
        """A query parameter; names compare without case (JS percent-encodes `api%2Dversion`)."""
        return next((v for k, v in self.query if k.lower() == name.lower()), default)

    def json(self) -> dict:
        value = json.loads(self.body.decode("utf-8", "replace"))
        if not isinstance(value, dict):
            raise json.JSONDecodeError("not an object", "", 0)
        return value


@dataclass
class Answer:
    status: int
    body: Any = None  # bytes as they are, None = empty, everything else becomes JSON
    headers: dict[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        if self.body is None:
            return b""
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps(self.body, separators=(",", ":")).encode()


class Log:
    """What was asked and answered, in order; never a header's value, never a body."""

    def __init__(self, path: Optional[str] = None) -> None:
        self._lock = threading.Lock()
        self._rows: collections.deque = collections.deque(maxlen=100_000)
        self._file = open(path, "a", buffering=1) if path else None
        self._n = 0

    def add(self, **row: Any) -> None:
        with self._lock:
            self._n += 1
            row = {"n": self._n, "time": round(time.time(), 3), **row}
            self._rows.append(row)
            if self._file:
                self._file.write(json.dumps(row) + "\n")

    def rows(self, since: int = 0) -> list[dict]:
        with self._lock:
            return [r for r in self._rows if r["n"] > since]

    def clear(self) -> None:
        with self._lock:
            self._rows.clear()


class Lost(Exception):
    """The connection is to end here without (the rest of) an answer."""


class Handler(BaseHTTPRequestHandler):
    """One connection: a request, perhaps a fault, an answer, again."""
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write per answer
    disable_nagle_algorithm = True
    timeout = IDLE_SECONDS
    server: "Server"

    def setup(self) -> None:
        listener = self.server.listener
        _local.sni = ""
        if listener.context:
            self.request.settimeout(IDLE_SECONDS)
            try:
                self.request = listener.context.wrap_socket(self.request, server_side=True)
            except (OSError, ValueError) as e:
                listener.log.add(service=listener.name, method="TLS",
                                 host=getattr(_local, "sni", ""), path="", status=0,
                                 client=self.client_address[0],
                                 fault=getattr(e, "reason", None) or type(e).__name__)
                raise Lost from e
        listener.open.add(self.request)
        super().setup()

    def finish(self) -> None:
        self.server.listener.open.discard(self.request)
        try:
            super().finish()
        except OSError:
            pass
        self.request.close()

    def serve(self) -> None:
        listener = self.server.listener
        try:
            request = self._read()
        except Lost:
            self.close_connection = True
            return
        fault = listener.faults.take(request.service, request.host, request.method, request.path)
        bearer = (self.headers.get("Authorization") or "").lower().startswith("bearer ")
        row = dict(service=request.service, method=request.method, host=request.host,
                   path=request.path, client=request.client, bearer=bearer,
                   body_bytes=len(request.body))
        if fault:
            row["fault"] = fault.action
        try:
            self._misbehave(request, fault, row) if fault else self._send(
                self._answer(request), row)
        except (Lost, OSError):
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do_OPTIONS = serve

    def _read(self) -> Request:
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding") or not 0 <= length <= BODY_MAX_BYTES:
            self.send_error(411 if self.headers.get("Transfer-Encoding") else 413)
            raise Lost
        body = self.rfile.read(length)
        if len(body) != length:
            raise Lost
        target = urllib.parse.urlsplit("//x" + self.path if self.path.startswith("/")
                                       else self.path)
        host = (self.headers.get("Host") or "").split(":")[0].lower()
        method = self.command
        if method == "POST" and self.headers.get("X-HTTP-METHOD"):
            method = self.headers["X-HTTP-METHOD"].upper()
        return Request(self.server.listener.service_of(host), method, host,
                       urllib.parse.unquote(target.path),
                       urllib.parse.parse_qsl(target.query, keep_blank_values=True),
                       self.headers, body, self.client_address[0])

    def _answer(self, request: Request, fault: Optional[Fault] = None) -> Answer:
        try:
            return self.server.listener.answer(request, fault)
        except Exception as e:  # a bug here must look like a bug, not like a cloud's fault
            traceback.print_exc()
            return Answer(500, {"error": {"code": "EmulatorBug", "message": repr(e)}})

    def _send(self, answer: Answer, row: dict, length: Optional[int] = None,
              part: Optional[bytes] = None, pause: float = 0) -> None:
        """Send an answer, or only `part` of it under the Content-Length of the whole."""
        content = answer.content()
        if answer.status != 204:
            answer.headers.setdefault("Content-Type", "application/json; charset=utf-8")
            answer.headers["Content-Length"] = str(length if length is not None else len(content))
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.server.listener.log.add(**row, status=answer.status,
                                     request_id=answer.headers.get("x-ms-request-id", ""))
        if self.command != "HEAD":
            if part is not None:
                content = part
            if pause:
                for i in range(len(content)):
                    self.wfile.write(content[i:i + 1])
                    self.wfile.flush()
                    time.sleep(pause)
            else:
                self.wfile.write(content)
        self.wfile.flush()
        if row.get("fault") == "huge-body":
            for _ in range((length or 0) // 65536):
                self.wfile.write(b"A" * 65536)
        if part is not None:
            raise Lost

    def _misbehave(self, request: Request, fault: Fault, row: dict) -> None:
        given, action = fault.with_, fault.action
        truth = None
        if fault.apply or action in ("delay", "trickle", "half-body"):
            if action == "delay":
                time.sleep(given.get("seconds", 5))
            truth = self._answer(request)
        if action in ("drop", "reset", "hang"):
            self.server.listener.log.add(**row, status=0, request_id="")
            if action == "hang":
                # until the client gives up (it closes, and the read returns) or the time is over
                self.connection.settimeout(given.get("seconds", 600))
                try:
                    self.connection.recv(1)
                except OSError:
                    pass
            if action == "reset":
                _linger_zero(self.connection)
            raise Lost
        if action == "delay":
            self._send(truth, row)
        elif action == "trickle":
            self._send(truth, row, pause=given.get("seconds", 0.05))
        elif action == "half-body":
            content = truth.content()
            self._send(truth, row, part=content[:len(content) // 2])
        elif action == "huge-body":
            self._send(Answer(given.get("status", 200)), row,
                       length=given.get("bytes", 64 * 1024 * 1024), part=b'{"value":"')
        elif action == "html":
            self._send(Answer(given.get("status", 200), b"<!DOCTYPE html>\r\n<html><head><title>"
                              b"Gateway</title></head><body>Please sign in.</body></html>\r\n",
                              {"Content-Type": "text/html"}), row)
        elif action == "not-json":
            self._send(Answer(given.get("status", 200), b"{\"value\": \"cut off"), row)
        elif action == "empty":
            self._send(Answer(given.get("status", 200)), row)
        elif action == "redirect":
            location = given.get("location") or f"https://elsewhere.example.net{request.path}"
            self._send(Answer(given.get("status", 307), None, {"Location": location}), row)
        else:
            self._send(self._answer(request, fault), row)

    def log_message(self, *args: Any) -> None:
        """The log is ours; the base class would write to stderr."""


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    listener: "Listener"

    def shutdown_request(self, request) -> None:
        self.close_request(request)  # no shutdown(): it would send FIN before a wanted RST

    def handle_error(self, request, client_address) -> None:
        """A connection that ends early is part of the game."""


class Listener:
    """One address and port with the services behind it; can be stopped (refused) and started."""

    def __init__(self, name: str, address: tuple[str, int], faults: Faults, log: Log,
                 service_of: Callable[[str], str],
                 answer: Callable[[Request, Optional[Fault]], Answer],
                 authority: Any = None) -> None:
        self.name, self.address, self.faults, self.log = name, address, faults, log
        self.service_of, self.answer, self.authority = service_of, answer, authority
        self.context: Optional[ssl.SSLContext] = None
        if authority:
            self.context = authority.context("server-" + name, authority.names)
            self.context.sni_callback = self.choose
        self.open: set[socket.socket] = set()
        self._server: Optional[Server] = None
        self._deaf: list[socket.socket] = []

    def choose(self, connection: ssl.SSLObject, name: Optional[str], _: Any) -> Optional[int]:
        """The TLS server name decides over the certificate, or that there is none."""
        host = (name or "").lower()
        _local.sni = host
        fault = self.faults.take(self.service_of(host), host, "TLS", "")
        if fault and fault.action == "tls-refuse":
            return ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE
        if fault:
            connection.context = self.authority.bad[fault.action]
        return None

    @property
    def running(self) -> bool:
        return self._server is not None

    def start(self) -> None:
        if self._server:
            return
        while self._deaf:
            self._deaf.pop().close()
        server = Server(self.address, Handler)
        server.listener = self
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        self._server = server

    def stop(self, silently: bool = False) -> None:
        """From now on connections are refused, or silently ignored; open ones are reset."""
        server, self._server = self._server, None
        if not server:
            return
        server.shutdown()
        server.server_close()
        for connection in list(self.open):
            try:
                _linger_zero(connection)
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        if silently:
            self._ignore()

    def _ignore(self) -> None:
        """A listener that never accepts and whose queue is full: the kernel drops further SYNs."""
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deaf.bind(self.address)
        deaf.listen(0)
        self._deaf = [deaf]
        while True:
            filler = socket.socket()
            self._deaf.append(filler)
            filler.settimeout(0.2)
            try:
                filler.connect(self.address)
            except TimeoutError:
                return


def _linger_zero(connection: socket.socket) -> None:
    """Closing this socket sends RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


_local = threading.local()
