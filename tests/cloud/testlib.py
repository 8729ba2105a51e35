# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the protocol tests ask with: a plain HTTP client that runs inside the namespace.

The tests' own process stays outside the namespace. A helper process inside it makes the requests,
so that even this simple client resolves real names by the namespace's DNS.
"""
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import urllib.parse
from dataclasses import dataclass
from typing import Any, Optional

from namespace import PYTHON, Namespace

VERSION = "7.4"
READ_MAX_BYTES = 1024 * 1024  # of one answer


@dataclass
class Reply:
    """An answer, or the reason why there is none (`status` 0, `failure` the exception's name)."""
    status: int
    headers: dict[str, str]
    text: str
    failure: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str:
        return self.json["error"]["code"]

    @property
    def inner(self) -> str:
        return self.json["error"].get("innererror", {}).get("code", "")


class Caller:
    """Makes requests inside the namespace, with the machine's own token unless told otherwise."""

    def __init__(self, ns: Namespace) -> None:
        self.ns = ns
        self._process = ns.popen([PYTHON, os.path.abspath(__file__), ns.ca_pem], text=True,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._tokens: dict[str, str] = {}

    def close(self) -> None:
        with self._process:  # closes the pipes and waits
            pass

    def raw(self, method: str, url: str, headers: Optional[dict] = None, body: Any = None,
            timeout: float = 10) -> Reply:
        self._process.stdin.write(json.dumps([method, url, headers or {}, body, timeout]) + "\n")
        self._process.stdin.flush()
        return Reply(**json.loads(self._process.stdout.readline()))

    def metadata(self, path: str, **query: str) -> Reply:
        return self.raw("GET", f"http://169.254.169.254/metadata/{path}?"
                        + urllib.parse.urlencode(query), {"Metadata": "true"})

    def token(self, resource: str = "https://vault.azure.net", **query: str) -> str:
        return self.metadata("identity/oauth2/token", **{"api-version": "2018-02-01",
                             "resource": resource, **query}).json["access_token"]

    def vault(self, method: str, path: str, body: Any = None, host: str = "kv1",
              token: Optional[str] = None, **kw: Any) -> Reply:
        """A request with a token; `token=""` sends none. api-version is added if it is missing."""
        if "." not in host:
            host += ".vault.azure.net"
        if token is None:
            audience = "https://" + host.partition(".")[2]
            if audience not in self._tokens:
                self._tokens[audience] = self.token(audience)
            token = self._tokens[audience]
        if "api-version" not in path:
            path += ("&" if "?" in path else "?") + "api-version=" + VERSION
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = "Bearer " + token
        return self.raw(method, f"https://{host}{path}", headers, body, **kw)


def _ask(ca_pem: str, method: str, url: str, headers: dict, body: Any, timeout: float) -> dict:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(
            parts.netloc, timeout=timeout, context=ssl.create_default_context(cafile=ca_pem))
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
    try:
        data = None if body is None else body if isinstance(body, str) else json.dumps(body)
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), data,
                           headers)
        answer = connection.getresponse()
        content = answer.read(READ_MAX_BYTES)
        wanted = int(answer.getheader("Content-Length") or len(content))
        if len(content) < min(wanted, READ_MAX_BYTES):
            raise http.client.IncompleteRead(content)
        text = content.decode("utf-8", "replace")
        return {"status": answer.status, "headers": {k.lower(): v for k, v in answer.getheaders()},
                "text": text}
    except (OSError, http.client.HTTPException) as e:
        if isinstance(e, socket.gaierror):
            name = "NoName"
        else:
            name = type(e).__name__
        return {"status": 0, "headers": {}, "text": getattr(e, "reason", None) or str(e),
                "failure": name}
    finally:
        connection.close()


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(_ask(sys.argv[1], *json.loads(line))), flush=True)
