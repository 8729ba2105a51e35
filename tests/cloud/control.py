# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a test tells the cloud what to be: JSON over HTTP on a unix socket in the work folder.

`POST /VERB` with an object of arguments answers an object; a mistake answers 400 with "error". By
hand: `curl --unix-socket WORKDIR/control.sock http://cloud/log -d '{}'`. The server's half is
`serve()`, the tests' half is `Client`; the verbs are the methods of `Cloud` in cloud.py that begin
with `do_`.
"""
import http.client
import json
import os
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any, Optional

SOCKET = "control.sock"


class _Path:
    """A short path for a socket in a folder whose own path may be too long for one (108 bytes)."""

    def __init__(self, workdir: str) -> None:
        self._fd = os.open(workdir, os.O_PATH | os.O_DIRECTORY)

    def __enter__(self) -> str:
        return f"/proc/self/fd/{self._fd}/{SOCKET}"

    def __exit__(self, *_: Any) -> None:
        os.close(self._fd)


def serve(workdir: str, cloud: Any) -> None:
    """Answer control requests in the background; the socket appears when all is ready."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                verb = getattr(cloud, "do_" + self.path.strip("/").replace("-", "_"))
                status, answer = 200, verb(**(json.loads(text) if text else {}))
            except Exception as e:
                status, answer = 400, {"error": f"{type(e).__name__}: {e}"}
            body = json.dumps(answer).encode()
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "control"

        def log_message(self, *_: Any) -> None:
            pass

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    with _Path(workdir) as path:
        server = Server(path, Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


class ControlError(Exception):
    """The cloud did not understand."""


class Client:
    """The tests' hand on the cloud. Every method is one control request."""

    def __init__(self, workdir: str) -> None:
        self._workdir = workdir

    def __call__(self, verb: str, **arguments: Any) -> Any:
        connection = http.client.HTTPConnection("cloud", timeout=120)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(120)
            with _Path(self._workdir) as path:
                connection.sock.connect(path)
            connection.request("POST", "/" + verb, json.dumps(arguments),
                               {"Content-Type": "application/json"})
            answer = connection.getresponse()
            value = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            raise ControlError(value["error"])
        return value

    # misbehaviour

    def fault(self, action: str, **given: Any) -> int:
        """Let requests go wrong; faults.py lists actions and filters. Returns its number."""
        return self("fault", action=action, **given)

    def clear(self, number: Optional[int] = None) -> None:
        """Forget all faults, or one."""
        self("clear", number=number)

    def faults(self) -> list[dict]:
        """All faults with their hits."""
        return self("faults")

    def stop(self, what: str, silently: bool = False) -> None:
        """From now on connections to `vault`, `imds` or `login` are refused, or get no answer."""
        self("stop", what=what, silently=silently)

    def start(self, what: str) -> None:
        self("start", what=what)

    # what there is

    def vault(self, name: str, **settings: Any) -> dict:
        """Make a vault, or change its settings (Vault.SETTINGS in vault.py)."""
        return self("vault", name=name, settings=settings)

    def remove_vault(self, name: str) -> None:
        self("remove_vault", name=name)

    def instance(self, **compute: Any) -> dict:
        """Change the machine's metadata, deeply: `securityProfile={"encryptionAtHost": "true"}`."""
        return self("instance", **compute)

    def identity(self, **settings: Any) -> dict:
        """The machine's identities: `system`, `user` (names), `lifetime`, `principals`."""
        return self("identity", **settings)

    def state(self) -> dict:
        """Everything: vaults with settings, secrets with values, keys; instance; identity."""
        return self("state")

    def save(self, path: str) -> None:
        self("save", path=os.path.abspath(path))

    def load(self, path: str) -> None:
        self("load", path=os.path.abspath(path))

    def log(self, since: int = 0, **equal: Any) -> list[dict]:
        """Requests in order, `log(service="vault", method="PUT")` those that have these values."""
        return [r for r in self("log", since=since)
                if all(r.get(k) == v for k, v in equal.items())]

    def clear_log(self) -> None:
        self("clear_log")

    # what the vault's owner does, past all permissions

    def admin(self, method: str, vault: str, path: str, body: Optional[dict] = None) -> dict:
        """A vault request with all rights: `admin("PATCH", "kv1", "/keys/kek1/", {...})`."""
        return self("admin", method=method, vault=vault, path=path, body=body)

    def create_key(self, vault: str, name: str, **body: Any) -> str:
        """Make a key (RSA 2048 if nothing else is said); returns its versioned identifier."""
        return self.admin("POST", vault, f"/keys/{name}/create",
                          {"kty": "RSA", **body})["key"]["kid"]

    def rotate_key(self, vault: str, name: str) -> str:
        return self.admin("POST", vault, f"/keys/{name}/rotate")["key"]["kid"]

    def set_secret(self, vault: str, name: str, value: str, **body: Any) -> str:
        return self.admin("PUT", vault, f"/secrets/{name}", {"value": value, **body})["id"]

    def enable(self, kind: str, vault: str, name: str, version: str = "",
               enabled: bool = True) -> None:
        """Enable or disable a version of one of the `secrets` or `keys`; the newest by default."""
        self.admin("PATCH", vault, f"/{kind}/{name}/{version}",
                   {"attributes": {"enabled": enabled}})

    def disable(self, kind: str, vault: str, name: str, version: str = "") -> None:
        self.enable(kind, vault, name, version, enabled=False)

    def delete(self, kind: str, vault: str, name: str) -> None:
        self.admin("DELETE", vault, f"/{kind}/{name}")

    def recover(self, kind: str, vault: str, name: str) -> None:
        self.admin("POST", vault, f"/deleted{kind}/{name}/recover")

    def forget(self, kind: str, vault: str, name: str, version: str = "") -> None:
        """As if an object, or one version of it, had never been."""
        self("forget", kind=kind, vault=vault, name=name, version=version)
