# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may ask: managed identities, tokens, and the two places that issue them.

Tokens are real JWTs (RS256, a key of this run), with the claims that the vendor's clients decode.
Sources: Azure instance metadata service reference ("managed identity"), Microsoft identity platform
("client credentials flow").
"""
import base64
import json
import time
import urllib.parse
import uuid
from typing import Any, Optional

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from faults import Fault
from wire import Answer, Request

TENANT = "11111111-2222-4333-8444-555555555555"
SUBSCRIPTION = "22222222-3333-4444-8555-666666666666"
LIFETIME_SECONDS = 86_400  # what the metadata service hands out today


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def managed_identity(name: str, system: bool = False) -> dict[str, str]:
    """An identity with ids that follow from its name, so that tests can rely on them."""
    def guid(part: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{part}.{name}.vmcrypt.example"))
    kind = ("Microsoft.Compute/virtualMachines" if system
            else "Microsoft.ManagedIdentity/userAssignedIdentities")
    group = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/rg1"
    return {"name": name, "client_id": guid("client"), "object_id": guid("object"),
            "msi_res_id": f"{group}/providers/{kind}/{name}"}


class Tokens:
    """Issues tokens and checks them."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)

    def issue(self, who: dict, audience: str, lifetime: int) -> str:
        now = int(time.time())
        claims = {
            "aud": audience, "iss": f"https://sts.windows.net/{TENANT}/", "iat": now - 300,
            "nbf": now - 300, "exp": now + lifetime, "aio": "E2ZgYAgA", "appid": who["client_id"],
            "appidacr": "2", "idp": f"https://sts.windows.net/{TENANT}/", "idtyp": "app",
            "oid": who["object_id"], "rh": "0.AAAA", "sub": who["object_id"], "tid": TENANT,
            "uti": uuid.uuid4().hex, "ver": "1.0", "xms_mirid": who["msi_res_id"]}
        head = {"typ": "JWT", "alg": "RS256", "x5t": "test", "kid": "test"}
        text = ".".join(b64url(json.dumps(p, separators=(",", ":")).encode())
                        for p in (head, claims))
        signature = self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return text + "." + b64url(signature)

    def check(self, token: str) -> Optional[dict]:
        """The claims, or None for a token that is not ours. The caller judges aud and exp."""
        try:
            text, signature = token.rsplit(".", 1)
            self._key.public_key().verify(unb64url(signature), text.encode(), padding.PKCS1v15(),
                                          hashes.SHA256())
            return json.loads(unb64url(text.split(".")[1]))
        except (ValueError, IndexError, InvalidSignature):
            return None


class Identity:
    """The machine's identities and the service principals, and their token endpoints."""

    SELECTORS = ("client_id", "object_id", "msi_res_id")

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.system: Optional[dict] = managed_identity("vm1", system=True)
        self.user: list[dict] = []
        self.principals: dict[str, str] = {}  # client id: secret
        self.lifetime = LIFETIME_SECONDS

    def configure(self, system: Any = True, user: Any = (), lifetime: int = LIFETIME_SECONDS,
                  principals: Optional[dict] = None) -> dict:
        """`system`: whether there is one; `user`: names of user-assigned identities."""
        self.system = managed_identity("vm1", system=True) if system else None
        self.user = [managed_identity(n) if isinstance(n, str) else n for n in user]
        self.lifetime = lifetime
        self.principals = principals or {}
        return self.dump()

    def dump(self) -> dict:
        return {"tenant": TENANT, "system": self.system, "user": self.user,
                "lifetime": self.lifetime}

    def _select(self, request: Request) -> Optional[dict]:
        given = [(k, v) for k, v in request.query
                 if k in (*self.SELECTORS, "mi_res_id", "principal_id")]
        if len(given) > 1:
            return None
        everyone = ([self.system] if self.system else []) + self.user
        if not given:
            if self.system:
                return self.system
            return self.user[0] if len(self.user) == 1 else None
        kind = {"mi_res_id": "msi_res_id", "principal_id": "object_id"}.get(given[0][0],
                                                                           given[0][0])
        return next((i for i in everyone if i[kind].lower() == given[0][1].lower()), None)

    def metadata_token(self, request: Request, fault: Optional[Fault]) -> Answer:
        """GET /metadata/identity/oauth2/token; all numbers in the answer are strings."""
        resource = request.one("resource")
        if not request.one("api-version") or not resource:
            missing = "resource" if not resource else "api-version"
            return error(400, "invalid_request",
                         f"Required query variable '{missing}' is missing")
        who = self._select(request)
        if not who:
            return error(400, "invalid_request", "Identity not found")
        audience, lifetime = resource.rstrip("/"), self.lifetime
        claimed = lifetime
        token = None
        if fault and fault.action == "token":
            audience = fault.with_.get("audience", audience)
            lifetime = fault.with_.get("lifetime", lifetime)
            claimed = fault.with_.get("claimed", lifetime)
            token = "not.a.token" if fault.with_.get("garbage") else None
        now = int(time.time())
        return Answer(200, {
            "access_token": token or self.tokens.issue(who, audience, lifetime),
            "client_id": who["client_id"], "expires_in": str(claimed),
            "expires_on": str(now + claimed), "ext_expires_in": str(claimed),
            "not_before": str(now - 300), "refresh_token": "", "resource": resource,
            "token_type": "Bearer"})

    def login(self, request: Request, fault: Optional[Fault]) -> Answer:
        """login.microsoftonline.com: client credentials, and what libraries ask before that."""
        parts = [p for p in request.path.split("/") if p]
        if parts[-1:] == ["openid-configuration"]:
            base = f"https://{request.host}/{parts[0]}"
            return Answer(200, {"issuer": f"{base}/v2.0",
                                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                                "token_endpoint": f"{base}/oauth2/v2.0/token",
                                "jwks_uri": f"{base}/discovery/v2.0/keys"})
        if parts[-2:] == ["discovery", "instance"]:
            return Answer(200, {
                "tenant_discovery_endpoint":
                    f"https://{request.host}/{TENANT}/v2.0/.well-known/openid-configuration",
                "api-version": "1.1", "metadata": [{
                    "preferred_network": request.host, "preferred_cache": request.host,
                    "aliases": [request.host]}]})
        if request.method != "POST" or parts[-1:] != ["token"]:
            return Answer(404, {"error": "not_found", "error_description": "no such endpoint"})
        form = dict(urllib.parse.parse_qsl(request.body.decode("utf-8", "replace")))
        client = form.get("client_id", "")
        known = client in self.principals and form.get("client_secret") == self.principals[client]
        if not known:
            return Answer(401, {
                "error": "invalid_client", "error_codes": [7000215],
                "error_description": "AADSTS7000215: Invalid client secret provided.",
                "trace_id": str(uuid.uuid4()), "correlation_id": str(uuid.uuid4())})
        audience = form.get("resource") or form.get("scope", "").removesuffix("/.default")
        who = {"client_id": client, "object_id": client, "msi_res_id": ""}
        return Answer(200, {"token_type": "Bearer", "expires_in": self.lifetime,
                            "ext_expires_in": self.lifetime,
                            "access_token": self.tokens.issue(who, audience.rstrip("/"),
                                                              self.lifetime)})


def error(status: int, name: str, text: str, **headers: str) -> Answer:
    return Answer(status, {"error": name, "error_description": text}, headers)
