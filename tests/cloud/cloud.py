#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A cloud to test against: vaults, identity, instance metadata at their real names and addresses.

Meant to run inside a network namespace that has those addresses (namespace.py makes one). Nothing
in it is for production: all secrets are readable through the control socket.

  cloud.py WORKDIR [--vault-address A] [--login-address A] [--metadata-address A] [--state FILE]
           [--authority FILE]

Files in WORKDIR: ca.pem (for clients), authority.pem (the same with its private key), control.sock (see control.py), requests.jsonl (the log).
"""
import argparse
import json
import os
import signal
import sys
from typing import Any, Optional

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import control  # noqa: E402
from authority import (HSM_SUFFIXES, LOGIN_HOSTS, MANAGEMENT_HOSTS, VAULT_SUFFIXES,  # noqa: E402
                       Authority)
from faults import Fault, Faults  # noqa: E402
from identity import SUBSCRIPTION, TENANT, Identity, Tokens, error  # noqa: E402
from metadata import Metadata  # noqa: E402
from vault import Vault  # noqa: E402
from wire import Answer, Listener, Log, Request  # noqa: E402

DEFAULT_VAULTS = {
    "kv1": {},
    "kv-far": {"region": "westus"},
    "kv-purgeable": {"recovery_level": "Recoverable+Purgeable"},
    "kv-readonly": {"mode": "policy", "permissions": {
        "secrets": ["get", "list"], "keys": ["get", "list", "unwrapKey"]}},
    "hsm1.managedhsm.azure.net": {},
}


class Cloud:
    """Everything together, and the verbs of the control socket."""

    def __init__(self, workdir: str, addresses: dict[str, str],
                 kept_authority: Optional[str] = None) -> None:
        self.workdir = workdir
        self.faults = Faults()
        self.requests = Log(os.path.join(workdir, "requests.jsonl"))
        self.tokens = Tokens()
        self.identity = Identity(self.tokens)
        self.metadata = Metadata(self.identity)
        self.vaults: dict[str, Vault] = {}
        authority = Authority(workdir, kept_authority)
        tls = dict(faults=self.faults, log=self.requests, service_of=self.service_of,
                   answer=self.answer, authority=authority)
        self.listeners = {
            "vault": Listener("vault", (addresses["vault"], 443), **tls),
            "login": Listener("login", (addresses["login"], 443), **tls),
            "imds": Listener("imds", (addresses["imds"], 80), self.faults, self.requests,
                             lambda host: "imds", self.metadata.answer),
        }

    # requests

    @staticmethod
    def service_of(host: str) -> str:
        if host.partition(".")[2] in VAULT_SUFFIXES + HSM_SUFFIXES:
            return "vault"
        if host in LOGIN_HOSTS:
            return "login"
        return "management" if host in MANAGEMENT_HOSTS else "elsewhere"

    def answer(self, request: Request, fault: Optional[Fault]) -> Answer:
        if request.service == "vault":
            vault = self.vaults.get(request.host)
            return vault.answer(request, fault) if vault else Answer(404)
        if fault:
            return Metadata.spoiled(fault)
        if request.service == "login":
            return self.identity.login(request, fault)
        if request.service == "management":
            return self._management(request)
        return error(404, "not_found", "Nobody should come here.")

    def _management(self, request: Request) -> Answer:
        """As much of the resource manager as `az login --identity` asks for."""
        scheme, _, token = (request.headers.get("Authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not self.tokens.check(token):
            login = f"https://{LOGIN_HOSTS[1]}/{TENANT}"
            return Answer(401, {"error": {"code": "AuthenticationFailed"}},
                          {"WWW-Authenticate": f'Bearer authorization_uri="{login}"'})
        parts = [p for p in request.path.split("/") if p]
        if parts == ["tenants"]:
            return Answer(200, {"value": [{"id": f"/tenants/{TENANT}", "tenantId": TENANT}]})
        if parts[:1] == ["subscriptions"] and len(parts) < 3:
            row = {"id": f"/subscriptions/{SUBSCRIPTION}", "subscriptionId": SUBSCRIPTION,
                   "tenantId": TENANT, "displayName": "test", "state": "Enabled"}
            return Answer(200, row if len(parts) == 2 else {"value": [row]})
        return Answer(404, {"error": {"code": "ResourceNotFound"}})

    # control verbs

    @staticmethod
    def _host(name: str) -> str:
        return (name if "." in name else f"{name}.vault.azure.net").lower()

    def _vault(self, name: str) -> Vault:
        try:
            return self.vaults[self._host(name)]
        except KeyError:
            raise ValueError(f"no vault {name}") from None

    def do_ping(self) -> dict:
        return {"pid": os.getpid()}

    def do_fault(self, action: str, **given: Any) -> int:
        return self.faults.add(action, **given)

    def do_clear(self, number: Optional[int] = None) -> None:
        self.faults.clear(number)

    def do_faults(self) -> list[dict]:
        return self.faults.dump()

    def do_stop(self, what: str, silently: bool = False) -> None:
        self.listeners[what].stop(silently)

    def do_start(self, what: str) -> None:
        self.listeners[what].start()

    def do_vault(self, name: str, settings: dict) -> dict:
        host = self._host(name)
        if self.service_of(host) != "vault":
            raise ValueError(f"{host} is no vault's name")
        vault = self.vaults.get(host) or Vault(host, self.tokens)
        vault.configure(**settings)
        self.vaults[host] = vault
        return {"host": host, **vault.settings}

    def do_remove_vault(self, name: str) -> None:
        del self.vaults[self._host(name)]

    def do_instance(self, **compute: Any) -> dict:
        return self.metadata.configure(**compute)

    def do_identity(self, **settings: Any) -> dict:
        return self.identity.configure(**settings) if settings else self.identity.dump()

    def do_state(self) -> dict:
        return {"vaults": {host: v.dump() for host, v in self.vaults.items()},
                "instance": self.metadata.instance, "identity": self.identity.dump()}

    def do_save(self, path: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as f:
            json.dump(self.do_state(), f, indent=1)

    def do_load(self, path: str) -> None:
        with open(path) as f:
            state = json.load(f)
        self.vaults.clear()
        for host, content in state["vaults"].items():
            self.vaults[host] = Vault(host, self.tokens)
            self.vaults[host].load(content)
        self.metadata.instance = state["instance"]
        who = state["identity"]
        self.identity.configure(bool(who["system"]), who["user"], who["lifetime"])

    def do_log(self, since: int = 0) -> list[dict]:
        return self.requests.rows(since)

    def do_clear_log(self) -> None:
        self.requests.clear()

    def do_admin(self, method: str, vault: str, path: str, body: Optional[dict] = None) -> Any:
        owner = self._vault(vault)
        answer = owner.answer(Request("vault", method, owner.host, path, [], {},
                                      json.dumps(body or {}).encode(), "owner", admin=True))
        if answer.status >= 300:
            raise ValueError(f"{answer.status} {answer.content().decode()}")
        return answer.body

    def do_forget(self, kind: str, vault: str, name: str, version: str = "") -> None:
        owner = self._vault(vault)
        with owner.lock:
            (owner.secrets if kind == "secrets" else owner.keys).forget(name, version)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir")
    parser.add_argument("--vault-address", default="198.51.100.4")
    parser.add_argument("--login-address", default="198.51.100.5")
    parser.add_argument("--metadata-address", default="169.254.169.254")
    parser.add_argument("--state", help="state to begin with, as the control verb save wrote it")
    parser.add_argument("--authority", help="authority.pem of the cloud whose clients are to trust us")
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the test, which then ends us
    cloud = Cloud(given.workdir, {"vault": given.vault_address, "login": given.login_address,
                                  "imds": given.metadata_address}, given.authority)
    if given.state:
        cloud.do_load(given.state)
    else:
        for name, settings in DEFAULT_VAULTS.items():
            cloud.do_vault(name, settings)
        cloud.do_admin("POST", "kv1", "/keys/kek1/create", {"kty": "RSA", "key_size": 2048})
    for listener in cloud.listeners.values():
        listener.start()
    control.serve(given.workdir, cloud)
    signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main()
