# SPDX-License-Identifier: LGPL-2.1-or-later
"""Vaults: whose request is it, may they, and which store answers.

Sources: Key Vault REST API reference ("Authentication, requests and responses"; the permission of
each call); paths are taken in every spelling that the vendor's own clients send.
"""
import base64
import json
import threading
import time
import uuid
from typing import Any, Optional

import refusal
from authority import HSM_SUFFIXES
from faults import Fault
from identity import SUBSCRIPTION, TENANT, Tokens
from keystore import OPERATIONS, Keys
from secretstore import Secrets
from wire import Answer, Request

# call: permission of an access policy -> data action of a role
ACTIONS = {
    "secrets/set": "secrets/setSecret", "secrets/get": "secrets/getSecret",
    "secrets/list": "secrets/readMetadata", "secrets/delete": "secrets/delete",
    "secrets/recover": "secrets/recover", "secrets/purge": "secrets/purge",
    "keys/get": "keys/read", "keys/list": "keys/read", "keys/create": "keys/create",
    "keys/import": "keys/import", "keys/update": "keys/update", "keys/delete": "keys/delete",
    "keys/recover": "keys/recover", "keys/purge": "keys/purge", "keys/rotate": "keys/rotate",
    "keys/wrapKey": "keys/wrap", "keys/unwrapKey": "keys/unwrap",
    "keys/encrypt": "keys/encrypt", "keys/decrypt": "keys/decrypt",
    "keys/getrotationpolicy": "keys/rotationPolicy/read",
    "keys/setrotationpolicy": "keys/rotationPolicy/write",
}
ALL = {kind: [a.split("/")[1] for a in ACTIONS if a.startswith(kind + "/")]
       for kind in ("secrets", "keys")}

CHALLENGES = {"unauthorized": "AKV10000: Request is missing a Bearer or PoP token.",
              "wrong-resource": "AKV10022: Invalid audience.",
              "claims": "AKV10052: Continuous access evaluation wants more claims."}


class Vault:
    """One vault (or managed HSM) under its host name. Settings are attributes of the same name."""

    SETTINGS = {
        "region": "westeurope",
        "recovery_level": "Recoverable",  # soft delete and purge protection: the safe kind
        "recoverable_days": 90,
        "mode": "rbac",                   # how permission is given: rbac, policy, none
        "permissions": None,              # {"secrets": [...], "keys": [...]}; None: everything
        "callers": None,                  # object ids that may ask; None: everybody
        "network": "open",                # open, firewall, connection: the kind of 403
        "settle_seconds": 0,              # how long a deletion takes to become visible
        "strict_base64": False,
        "resource": None,                 # audience named by the challenge; None: the true one
        "login": "https://login.microsoftonline.com",
    }

    def __init__(self, host: str, tokens: Tokens) -> None:
        self.host, self.tokens = host.lower(), tokens
        self.name, _, self.suffix = self.host.partition(".")
        self.hsm = self.suffix in HSM_SUFFIXES
        self.lock = threading.RLock()
        self.settings = dict(self.SETTINGS)
        self.secrets, self.keys = Secrets(self), Keys(self)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["settings"][name]
        except KeyError:
            raise AttributeError(name) from None

    def configure(self, **settings: Any) -> None:
        for name in settings:
            if name not in self.SETTINGS:
                raise ValueError(f"a vault has no setting {name}")
        self.settings.update(settings)

    @staticmethod
    def now() -> int:
        return int(time.time())

    @property
    def audience(self) -> str:
        return f"https://{self.suffix}"

    # state

    def dump(self) -> dict:
        with self.lock:
            return json.loads(json.dumps({
                "settings": self.settings, **{f"{'deleted' if gone else ''}{s.kind}":
                                              s.deleted if gone else s.items
                                              for s in (self.secrets, self.keys)
                                              for gone in (False, True)}}))

    def load(self, state: dict) -> None:
        with self.lock:
            self.configure(**state.get("settings", {}))
            for store in (self.secrets, self.keys):
                store.items = state.get(store.kind, {})
                store.deleted = state.get(f"deleted{store.kind}", {})

    # answering

    def answer(self, request: Request, fault: Optional[Fault] = None) -> Answer:
        try:
            answer = self._answer(request, fault)
        except refusal.Refusal as no:
            answer = no.answer
        except json.JSONDecodeError:
            answer = refusal.bad_parameter("The request body is not valid JSON").answer
        answer.headers = {**self._headers(request), **answer.headers}
        return answer

    def _headers(self, request: Request) -> dict[str, str]:
        headers = {
            "Cache-Control": "no-cache", "Pragma": "no-cache", "Expires": "-1",
            "x-ms-keyvault-region": self.region, "x-ms-request-id": str(uuid.uuid4()),
            "x-ms-keyvault-network-info": f"conn_type=Ipv4;addr={request.client};"
                                          "act_addr_fam=InterNetwork;",
            "X-Content-Type-Options": "nosniff",
            "Strict-Transport-Security": "max-age=31536000;includeSubDomains"}
        if request.headers.get("x-ms-client-request-id"):
            headers["x-ms-client-request-id"] = request.headers["x-ms-client-request-id"]
        if self.hsm:
            headers["x-ms-server-latency"] = "1"
        else:
            headers["x-ms-keyvault-service-version"] = "1.9.2345.1"
            if self.mode == "rbac":
                headers["x-ms-keyvault-rbac-assignment-id"] = uuid.uuid5(
                    uuid.NAMESPACE_DNS, self.host).hex
        return headers

    def _answer(self, request: Request, fault: Optional[Fault]) -> Answer:
        parts = [p for p in request.path.split("/") if p]
        kind = parts[0].lower() if parts else ""
        if kind == "healthstatus":
            return Answer(200)
        if fault:
            return self._fault(request, fault, parts)
        call = self._call(request.method, parts)
        if not request.admin:
            who = self._authenticate(request)
            if not request.one("api-version"):
                raise refusal.bad_parameter("api-version must be specified")
            if call:
                self._authorize(request, who, call)
        if not call or (self.hsm and not call.startswith("keys/")):
            raise refusal.Refusal(404 if parts else 405, "NotFound", "No such operation.")
        with self.lock:
            store = self.secrets if "secrets" in kind else self.keys
            if kind.startswith("deleted"):
                return self._deleted(store, request, parts[1:])
            return store.answer(request, parts[1:])

    @staticmethod
    def _deleted(store: Any, request: Request, parts: list[str]) -> Answer:
        if not parts:
            return store.list_deleted(request)
        if request.method == "POST":
            return Answer(200, store.recover(parts[0]))
        if request.method == "DELETE":
            return store.purge(parts[0])
        return Answer(200, store.show_deleted(store.find_deleted(parts[0])))

    @staticmethod
    def _call(method: str, parts: list[str]) -> str:
        """The permission that a request needs, as `kind/verb`; empty: no such call."""
        kind, last = (parts[0].lower(), parts[-1].lower()) if parts else ("", "")
        depth = len(parts)
        if kind in ("deletedsecrets", "deletedkeys"):
            verb = {("GET", 1): "list", ("GET", 2): "get", ("DELETE", 2): "purge",
                    ("POST", 3): "recover" if last == "recover" else ""}.get((method, depth), "")
            return f"{kind[7:]}/{verb}" if verb else ""
        if kind == "secrets":
            verb = {"PUT": "set" if depth == 2 else "", "PATCH": "set",
                    "DELETE": "delete" if depth == 2 else "",
                    "GET": "list" if depth == 1 or last == "versions" else "get"}.get(method, "")
            return f"{kind}/{verb}" if verb and depth <= 3 else ""
        if kind == "keys" and depth <= 4:
            if method == "POST":
                verb = {"create": "create", "rotate": "rotate", **OPERATIONS}.get(last, "")
            elif last == "rotationpolicy":
                verb = {"GET": "getrotationpolicy", "PUT": "setrotationpolicy"}.get(method, "")
            else:
                verb = {"PUT": "import" if depth == 2 else "", "PATCH": "update",
                        "DELETE": "delete" if depth == 2 else "",
                        "GET": "list" if depth == 1 or last == "versions" else "get",
                        }.get(method, "")
            return f"{kind}/{verb}" if verb else ""
        return ""

    def _challenge(self, message: str, resource: str = "", claims: str = "") -> refusal.Refusal:
        return refusal.unauthorized(message, resource or self.resource or self.audience, self.hsm,
                                    claims, self.login)

    def _authenticate(self, request: Request) -> dict:
        """The claims of the bearer token; the words of AKV10046 are not from a recording."""
        scheme, _, token = (request.headers.get("Authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise self._challenge(CHALLENGES["unauthorized"])
        claims = self.tokens.check(token.strip())
        if not claims:
            raise self._challenge("AKV10046: Unable to resolve the key used for signature "
                                  "validation.")
        if claims["aud"].rstrip("/") != self.audience:
            raise self._challenge(f"AKV10022: Invalid audience. Expected {self.audience}, found: "
                                  f"{claims['aud']}.")
        if claims["tid"] != TENANT:
            raise self._challenge("AKV10032: Invalid issuer.")
        if claims["exp"] <= time.time():
            raise self._challenge("Error validating token: IDX10223")
        return claims

    def _forbidden(self, how: str, request: Request, claims: Optional[dict],
                   call: str) -> refusal.Refusal:
        claims = claims or {"appid": "unknown", "oid": "unknown"}
        who = (f"appid={claims['appid']};oid={claims['oid']};"
               f"iss=https://sts.windows.net/{TENANT}/")
        action = ACTIONS.get(call, call) if how == "forbidden-by-rbac" else call
        resource = (f"/subscriptions/{SUBSCRIPTION}/resourcegroups/rg1/providers/microsoft.keyvault"
                    f"/vaults/{self.name}{request.path}")
        return refusal.forbidden(how, who, action, resource, self.name, self.region, request.client)

    def _authorize(self, request: Request, claims: dict, call: str) -> None:
        if self.network != "open":
            raise self._forbidden(f"forbidden-by-{self.network}", request, claims, call)
        kind, verb = call.split("/")
        if self.mode == "none" or (self.callers is not None
                                   and claims["oid"] not in self.callers):
            how = "forbidden-by-rbac" if self.mode == "rbac" else "access-denied"
            raise self._forbidden(how, request, claims, call)
        granted = ALL if self.permissions is None else self.permissions
        if verb.lower() not in (v.lower() for v in granted.get(kind, ())):
            how = "forbidden-by-rbac" if self.mode == "rbac" else "forbidden-by-policy"
            raise self._forbidden(how, request, claims, call)

    def _fault(self, request: Request, fault: Fault, parts: list[str]) -> Answer:
        """The service's own words for a fault of faults.ACTIONS."""
        given, action = fault.with_, fault.action
        kind = "keys" if parts and "keys" in parts[0].lower() else "secrets"
        name = parts[1] if len(parts) > 1 else ""
        call = self._call(request.method, parts) or f"{kind}/get"
        if action == "claims":
            wanted = base64.b64encode(json.dumps(
                {"access_token": {"nbf": {"essential": True, "value": "1"}}}).encode()).decode()
            raise self._challenge(CHALLENGES[action], claims=wanted)
        if action == "wrong-resource":
            raise self._challenge(CHALLENGES[action],
                                  given.get("resource", "https://vault.example.net"))
        if action in CHALLENGES:
            raise self._challenge(CHALLENGES[action])
        if action == "access-denied" or action.startswith("forbidden-by-"):
            raise self._forbidden(action, request, None, call)
        simple = {"disabled": lambda: refusal.disabled(kind, call.split("/")[1]),
                  "not-found": lambda: refusal.not_found(kind, name),
                  "conflict": lambda: refusal.conflict(kind, name),
                  "being-deleted": lambda: refusal.being_deleted(kind, name)}
        if action in simple:
            raise simple[action]()
        later = {header: str(given[name]) for name, header in (
            ("retry_after", "Retry-After"), ("retry_after_ms", "retry-after-ms"))
            if given.get(name) is not None}
        if action == "throttled":
            return Answer(429, refusal.throttled().answer.body, later)
        status = given.get("status", 500)
        code = {400: "BadParameter", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound",
                408: "RequestTimeout", 409: "Conflict", 429: "Throttled", 503: "ServiceUnavailable",
                504: "GatewayTimeout"}.get(status, "InternalServerError")
        body = given.get("body", {"error": {"code": code, "message": f"Fault: {status}"}})
        return Answer(status, body.encode() if isinstance(body, str) else body,
                      {**later, **given.get("headers", {})})
