# SPDX-License-Identifier: LGPL-2.1-or-later
"""Misbehaviour on request: which requests shall go wrong, and how.

A fault is a filter and an action. The first fault in the order of adding that fits a request and
has count left is used. The filter: `service` (vault, imds, login, management, elsewhere), `host`
(glob or exact, case-insensitive), `method`, `path` (regular expression, searched), `skip` (let that
many fitting requests through first), `count` (then spoil that many; null = for ever).
"""
import fnmatch
import itertools
import re
import threading
from dataclasses import dataclass, field
from typing import Any, Optional

# action: what a client sees. Parameters in brackets.
ACTIONS = {
    # answers in the service's own words
    "status": "status code with the service's usual body [status, headers, body, retry_after]",
    "unauthorized": "401 with a fresh challenge, although the token is good",
    "wrong-resource": "401 whose challenge names a foreign audience [resource]",
    "claims": "401 insufficient_claims (continuous access evaluation)",
    "access-denied": "403 AccessDenied: no access policy at all",
    "forbidden-by-policy": "403 ForbiddenByPolicy",
    "forbidden-by-rbac": "403 ForbiddenByRbac",
    "forbidden-by-firewall": "403 ForbiddenByFirewall",
    "forbidden-by-connection": "403 ForbiddenByConnection",
    "disabled": "403 SecretDisabled or KeyDisabled",
    "not-found": "404 as if it had never existed",
    "conflict": "409 ObjectIsDeletedButRecoverable",
    "being-deleted": "409 ObjectIsBeingDeleted",
    "throttled": "429 [retry_after: null, seconds, or an HTTP date; retry_after_ms]",
    "identity-not-found": "IMDS 400 invalid_request: Identity not found",
    "token": "issue a token that is not good [lifetime, claimed, audience, garbage]",
    # answers that are no answers
    "html": "an HTML page, as a proxy sends it [status]",
    "not-json": "plain text under a JSON content type [status]",
    "empty": "status without a body [status]",
    "huge-body": "a body that does not end soon [bytes]",
    "half-body": "the true answer, its second half missing, then the connection closes",
    "redirect": "307 to another host [location, status]",
    # answers that take their time
    "delay": "the true answer after a pause [seconds]",
    "trickle": "the true answer, byte by byte [seconds between bytes]",
    "hang": "no answer while the client has patience [seconds]",
    # no answer
    "drop": "the connection closes without an answer",
    "reset": "the connection is reset (RST)",
    # before the request: `host` and `service` only
    "tls-refuse": "handshake_failure alert",
    "tls-wrong-name": "a certificate for another name",
    "tls-untrusted": "a certificate of another authority",
    "tls-expired": "a certificate of yesterday",
}


@dataclass
class Fault:
    """One fault as given, with its hits. `apply`: do what was asked, then lose the answer."""
    id: int
    action: str
    service: Optional[str] = None
    host: Optional[str] = None
    method: Optional[str] = None
    path: Optional[str] = None
    skip: int = 0
    count: Optional[int] = 1
    apply: bool = False
    hits: int = 0
    with_: dict[str, Any] = field(default_factory=dict)

    def fits(self, service: str, host: str, method: str, path: str) -> bool:
        return ((self.service is None or self.service == service)
                and (self.host is None or fnmatch.fnmatch(host.lower(), self.host.lower()))
                and (method == "TLS" or self.method is None or self.method.upper() == method)
                and (method == "TLS" or self.path is None
                     or re.search(self.path, path, re.I) is not None))


class Faults:
    """All faults in force; safe to use from every connection's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._list: list[Fault] = []
        self._ids = itertools.count(1)

    def add(self, action: str, **given: Any) -> int:
        if action not in ACTIONS:
            raise ValueError(f"no such fault: {action}")
        own = {k: given.pop(k) for k in ("service", "host", "method", "path", "skip", "count",
                                         "apply") if k in given}
        if own.get("path"):
            re.compile(own["path"])
        if own.get("host") and "." not in own["host"] and "*" not in own["host"]:
            own["host"] += ".*"  # "kv1" means that vault under any suffix
        fault = Fault(next(self._ids), action, with_=given, **own)
        with self._lock:
            self._list.append(fault)
        return fault.id

    def clear(self, number: Optional[int] = None) -> None:
        with self._lock:
            self._list = [f for f in self._list if number is not None and f.id != number]

    def dump(self) -> list[dict]:
        with self._lock:
            return [dict(vars(f)) for f in self._list]

    def take(self, service: str, host: str, method: str, path: str) -> Optional[Fault]:
        """The fault for this request, its count reduced; None when it shall go well."""
        tls = method == "TLS"
        with self._lock:
            for fault in self._list:
                if fault.action.startswith("tls-") != tls:
                    continue
                if fault.count == 0 or not fault.fits(service, host, method, path):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                if fault.count is not None:
                    fault.count -= 1
                fault.hits += 1
                return fault
        return None
