# SPDX-License-Identifier: LGPL-2.1-or-later
"""The emulator's own tests: each function is one promise about what a client sees.

All run against one cloud, one after the other; each begins without faults, with a fresh log.
"""
import base64
import concurrent.futures
import json
import time

from identity import b64url, unb64url
from namespace import Namespace
from testlib import Caller


def same(got, want) -> None:
    if got != want:
        raise AssertionError(f"got {got!r}, want {want!r}")


def test_challenge(ns: Namespace, ask: Caller) -> None:
    """Without a token: 401, a challenge, and the body that says so."""
    r = ask.vault("PUT", "/secrets/x", token="")
    same((r.status, r.code), (401, "Unauthorized"))
    challenge = r.headers["www-authenticate"]
    assert challenge.startswith('Bearer authorization="https://login.microsoftonline.com/')
    assert challenge.endswith('resource="https://vault.azure.net"'), challenge
    r = ask.vault("GET", "/keys/k", host="hsm1.managedhsm.azure.net", token="")
    same((r.status, r.text), (401, ""))  # a managed HSM says nothing in the body


def test_token_audience_and_expiry(ns: Namespace, ask: Caller) -> None:
    r = ask.vault("GET", "/keys/kek1", token=ask.token("https://management.azure.com/"))
    same((r.status, "AKV10022" in r.text), (401, True))
    ns.cloud.fault("token", service="imds", lifetime=-1, claimed=3600)
    token = ask.token()
    claims = json.loads(unb64url(token.split(".")[1]))
    assert claims["exp"] < time.time() and claims["xms_mirid"] and claims["tid"] and claims["oid"]
    same(ask.vault("GET", "/keys/kek1", token=token).status, 401)
    same(ask.vault("GET", "/keys/kek1", token=ask.token()[:-4] + "AAAA").status, 401)
    same(ask.vault("GET", "/keys/kek1").status, 200)


def test_headers(ns: Namespace, ask: Caller) -> None:
    r = ask.vault("GET", "/keys/kek1", host="kv1")
    for name in ("x-ms-request-id", "x-ms-keyvault-service-version", "cache-control",
                 "x-ms-keyvault-network-info", "x-ms-keyvault-rbac-assignment-id"):
        assert r.headers.get(name), name
    same(r.headers["x-ms-keyvault-region"], "westeurope")
    same(r.headers["content-type"], "application/json; charset=utf-8")
    r = ask.vault("GET", "/secrets/none", host="kv-far")
    same((r.status, r.headers["x-ms-keyvault-region"]), (404, "westus"))
    same(ns.cloud.log(status=404)[-1]["request_id"], r.headers["x-ms-request-id"])
    same(ask.raw("GET", "https://kv1.vault.azure.net/healthstatus").status, 200)


def test_api_version_is_required(ns: Namespace, ask: Caller) -> None:
    same(ask.vault("GET", "/keys/kek1?api-version=").code, "BadParameter")
    same(ask.vault("GET", "/keys/kek1?api%2Dversion=2025-07-01").status, 200)


def test_secret_life(ns: Namespace, ask: Caller) -> None:
    """Set, get, versions, update, delete, conflict, recover, purge refused."""
    first = ask.vault("PUT", "/secrets/life", {
        "value": "one", "contentType": "text/plain", "tags": {"a": "b"},
        "attributes": {"exp": 4102444800, "nbf": 1}}).json
    second = ask.vault("PUT", "/secrets/life", {"value": "two"}).json
    assert first["id"] != second["id"]
    version = first["id"].rsplit("/", 1)[1]
    same(len(version), 32)
    for path in (f"/secrets/life/{version}", f"/SECRETS/Life/{version.upper()}/",
                 f"/secrets/life//{version}"):
        same(ask.vault("GET", path).json, first)
    for path in ("/secrets/life", "/secrets/life/"):
        same(ask.vault("GET", path).json["value"], "two")
    same((first["attributes"]["exp"], first["attributes"]["recoveryLevel"],
          first["attributes"]["recoverableDays"]), (4102444800, "Recoverable", 90))
    listed = ask.vault("GET", "/secrets/life/versions").json
    same({r["id"] for r in listed["value"]}, {first["id"], second["id"]})
    assert "value" not in listed["value"][0] and listed["nextLink"] is None
    patched = ask.vault("PATCH", f"/secrets/life/{version}",
                        {"attributes": {"enabled": False}}).json
    same(("value" in patched, patched["attributes"]["enabled"], patched["tags"]),
         (False, False, {"a": "b"}))
    r = ask.vault("GET", f"/secrets/life/{version}")
    same((r.status, r.code, r.inner), (403, "Forbidden", "SecretDisabled"))
    gone = ask.vault("DELETE", "/secrets/life").json
    assert gone["recoveryId"].endswith("/deletedsecrets/life") and gone["scheduledPurgeDate"]
    same(ask.vault("GET", "/secrets/life").code, "SecretNotFound")
    r = ask.vault("PUT", "/secrets/life", {"value": "x"})
    same((r.status, r.code, r.inner), (409, "Conflict", "ObjectIsDeletedButRecoverable"))
    same(ask.vault("GET", "/deletedsecrets/life").json["id"], second["id"])
    same(ask.vault("GET", "/deletedsecrets/never").status, 404)
    same(ask.vault("DELETE", "/deletedsecrets/life").status, 403)  # purge protection
    same(ask.vault("POST", "/deletedsecrets/life/recover").status, 200)
    same(ask.vault("GET", "/secrets/life").json["value"], "two")


def test_purge(ns: Namespace, ask: Caller) -> None:
    for verb, path, want in (
            ("PUT", "/secrets/p", 200), ("DELETE", "/secrets/p", 200),
            ("DELETE", "/deletedsecrets/p", 204), ("GET", "/deletedsecrets/p", 404),
            ("PUT", "/secrets/p", 200)):
        r = ask.vault(verb, path, {"value": "v"} if verb == "PUT" else None, host="kv-purgeable")
        same((verb, path, r.status), (verb, path, want))
    same(r.json["attributes"]["recoveryLevel"], "Recoverable+Purgeable")


def test_deleting_takes_time(ns: Namespace, ask: Caller) -> None:
    ns.cloud.vault("kv-slow", settle_seconds=2)
    ask.vault("PUT", "/secrets/s", {"value": "v"}, host="kv-slow")
    ask.vault("DELETE", "/secrets/s", host="kv-slow")
    same(ask.vault("GET", "/deletedsecrets/s", host="kv-slow").status, 404)
    same(ask.vault("PUT", "/secrets/s", {"value": "v"}, host="kv-slow").inner,
         "ObjectIsBeingDeleted")
    time.sleep(2.1)
    same(ask.vault("GET", "/deletedsecrets/s", host="kv-slow").status, 200)


def test_secret_limits(ns: Namespace, ask: Caller) -> None:
    for name, body, want in (
            ("value", {"value": "x" * 25600}, 200), ("value", {"value": "x" * 25601}, 400),
            ("type", {"value": "x", "contentType": "c" * 256}, 400),
            ("tags", {"value": "x", "tags": {str(i): "" for i in range(16)}}, 400),
            ("tag", {"value": "x", "tags": {"t": "x" * 513}}, 400),
            ("none", {}, 400), ("na_me", {"value": "x"}, 400), ("n" * 128, {"value": "x"}, 400)):
        same((name, ask.vault("PUT", f"/secrets/{name}", body).status), (name, want))
    same(ask.vault("PUT", "/secrets/json", "{not json").code, "BadParameter")
    # nbf and exp inform only
    body = {"value": "late", "attributes": {"exp": 1}}
    ask.vault("PUT", "/secrets/expired", body)
    same(ask.vault("GET", "/secrets/expired").json["value"], "late")
    # an old client sends text for truth
    r = ask.vault("PUT", "/secrets/text", {"value": "v", "attributes": {"enabled": "true"}})
    same(r.json["attributes"]["enabled"], True)


def test_paging(ns: Namespace, ask: Caller) -> None:
    for i in range(7):
        ask.vault("PUT", f"/secrets/page{i}", {"value": "v"}, host="kv-far")
    path, seen = "/secrets?maxresults=3", []
    while path:
        page = ask.vault("GET", path, host="kv-far").json
        assert len(page["value"]) <= 3
        seen += [r["id"].rsplit("/", 1)[1] for r in page["value"]]
        path = (page["nextLink"] or "").removeprefix("https://kv-far.vault.azure.net")
    same(seen, [f"page{i}" for i in range(7)])
    same(ask.vault("GET", "/secrets?maxresults=26").status, 400)


def test_wrap_and_unwrap(ns: Namespace, ask: Caller) -> None:
    """Every algorithm, every spelling of the path, the longest value."""
    kid = ask.vault("GET", "/keys/kek1/").json["key"]["kid"]
    version = kid.rsplit("/", 1)[1]
    for algorithm, longest in (("RSA-OAEP-256", 190), ("RSA-OAEP", 214), ("RSA1_5", 245)):
        plain = b64url(b"p" * longest)
        for path in ("/keys/kek1/wrapkey", "/keys/kek1//wrapkey", f"/keys/kek1/{version}/wrapKey"):
            wrapped = ask.vault("POST", path, {"alg": algorithm, "value": plain}).json
            same(wrapped["kid"], kid)
            assert "=" not in wrapped["value"]
            r = ask.vault("POST", f"/keys/kek1/{version}/unwrapkey",
                          {"alg": algorithm, "value": wrapped["value"]})
            same(r.json, {"kid": kid, "value": plain})
        r = ask.vault("POST", "/keys/kek1/wrapkey",
                      {"alg": algorithm, "value": b64url(b"p" * (longest + 1))})
        same((r.status, r.code), (400, "BadParameter"))
    r = ask.vault("POST", "/keys/kek1/encrypt", {"alg": "RSA-OAEP", "value": "YWJj"}).json["value"]
    same(ask.vault("POST", "/keys/kek1/decrypt", {"alg": "RSA-OAEP", "value": r}).json["value"],
         "YWJj")
    padded = base64.b64encode(b"padded").decode()
    same(ask.vault("POST", "/keys/kek1/wrapkey", {"alg": "RSA-OAEP", "value": padded}).status, 200)
    for value in ("a+b/", "", "a", None, "ab c"):
        r = ask.vault("POST", "/keys/kek1/wrapkey", {"alg": "RSA-OAEP", "value": value})
        same((value, r.code, "not base64url" in r.text), (value, "BadParameter", True))
    same(ask.vault("POST", "/keys/kek1/wrapkey", {"alg": "A256KW", "value": "YWJj"}).status, 400)
    same(ask.vault("POST", "/keys/none/wrapkey", {"alg": "RSA-OAEP", "value": "YWJj"}).code,
         "KeyNotFound")


def test_rotation_between_wrap_and_unwrap(ns: Namespace, ask: Caller) -> None:
    first = ns.cloud.create_key("kv1", "rotated")
    body = {"alg": "RSA-OAEP-256", "value": "c2VjcmV0"}
    body["value"] = ask.vault("POST", "/keys/rotated/wrapkey", body).json["value"]
    assert ask.vault("POST", "/keys/rotated/rotate").json["key"]["kid"] != first
    r = ask.vault("POST", "/keys/rotated/unwrapkey", body)
    same((r.status, r.code), (400, "BadParameter"))
    version = first.rsplit("/", 1)[1]
    same(ask.vault("POST", f"/keys/rotated/{version}/unwrapkey", body).json["value"], "c2VjcmV0")
    same(len(ask.vault("GET", "/keys/rotated/versions").json["value"]), 2)
    ns.cloud.forget("keys", "kv1", "rotated", version)
    same(ask.vault("POST", f"/keys/rotated/{version}/unwrapkey", body).code, "KeyNotFound")


def test_key_windows_and_operations(ns: Namespace, ask: Caller) -> None:
    """Expired: unwrap works, wrap does not. Disabled: nothing. key_ops: as listed."""
    ask.vault("POST", "/keys/window/create", {"kty": "RSA", "key_size": 2048})
    wrap = {"alg": "RSA-OAEP", "value": "YWJj"}
    unwrap = {**wrap, "value": ask.vault("POST", "/keys/window/wrapkey", wrap).json["value"]}
    for attributes in ({"exp": 1}, {"exp": 4102444800, "nbf": 4102444800}):
        ask.vault("PATCH", "/keys/window/", {"attributes": attributes})
        same(ask.vault("POST", "/keys/window/wrapkey", wrap).status, 403)
        same(ask.vault("POST", "/keys/window/unwrapkey", unwrap).json["value"], "YWJj")
    ns.cloud.disable("keys", "kv1", "window")
    r = ask.vault("POST", "/keys/window/unwrapkey", unwrap)
    same((r.status, r.inner), (403, "KeyDisabled"))
    ns.cloud.enable("keys", "kv1", "window")
    ask.vault("PATCH", "/keys/window/", {"key_ops": ["wrapKey"]})
    same(ask.vault("POST", "/keys/window/unwrapkey", unwrap).status, 403)
    ns.cloud.delete("keys", "kv1", "window")
    same(ask.vault("POST", "/keys/window/unwrapkey", unwrap).code, "KeyNotFound")
    same(ask.vault("POST", "/keys/window/create", {"kty": "RSA"}).inner,
         "ObjectIsDeletedButRecoverable")
    same(ask.vault("GET", "/deletedkeys/window").status, 200)
    ns.cloud.recover("keys", "kv1", "window")
    same(ask.vault("GET", "/keys/window").status, 200)


def test_managed_hsm(ns: Namespace, ask: Caller) -> None:
    host = "hsm1.managedhsm.azure.net"
    r = ask.vault("POST", "/keys/oct/create", {"kty": "oct-HSM", "key_size": 256}, host=host)
    same((r.json["key"]["kty"], "k" in r.json["key"]), ("oct-HSM", False))
    assert "x-ms-keyvault-service-version" not in r.headers
    r = ask.vault("POST", "/keys/oct/wrapkey", {"alg": "A256KW", "value": b64url(b"x" * 32)},
                  host=host)
    same(r.json["alg"], "A256KW")
    r = ask.vault("POST", "/keys/oct/unwrapkey", {"alg": "A256KW", "value": r.json["value"]},
                  host=host)
    same(unb64url(r.json["value"]), b"x" * 32)
    r = ask.vault("POST", "/keys/r/create", {"kty": "RSA"}, host=host)
    same((r.json["key"]["kty"], r.json["attributes"]["hsmPlatform"]), ("RSA-HSM", "2"))
    same(ask.vault("GET", "/secrets/x", host=host).status, 404)


def test_permissions(ns: Namespace, ask: Caller) -> None:
    r = ask.vault("PUT", "/secrets/x", {"value": "v"}, host="kv-readonly")
    same((r.status, r.inner), (403, "ForbiddenByPolicy"))
    cloud, host = ns.cloud, "kv-rules"
    for settings, want in (
            ({}, ""), ({"permissions": {"secrets": ["get"]}}, "ForbiddenByRbac"),
            ({"mode": "policy"}, "ForbiddenByPolicy"), ({"mode": "none"}, "AccessDenied"),
            ({"mode": "rbac", "permissions": None, "callers": ["nobody"]}, "ForbiddenByRbac"),
            ({"callers": None, "network": "firewall"}, "ForbiddenByFirewall"),
            ({"network": "connection"}, "ForbiddenByConnection"), ({"network": "open"}, "")):
        cloud.vault(host, **settings)
        r = ask.vault("PUT", "/secrets/x", {"value": "v"}, host=host)
        same((settings, r.status, r.inner if r.status != 200 else ""),
             (settings, 403 if want else 200, want))


def test_metadata(ns: Namespace, ask: Caller) -> None:
    v = {"api-version": "2021-12-13"}
    same(ask.metadata("instance/compute", **v).json["location"], "westeurope")
    same(ask.metadata("instance/compute/securityProfile", **v).json["encryptionAtHost"], "false")
    same(ask.metadata("instance/compute/location", **v, format="text").text, "westeurope")
    assert "osDisk" in ask.metadata("instance/compute/storageProfile", **v).json
    ns.cloud.instance(location="westus", securityProfile={"encryptionAtHost": "true"})
    compute = ask.metadata("instance", **v).json["compute"]
    same((compute["location"], compute["securityProfile"]["encryptionAtHost"]), ("westus", "true"))
    ns.cloud.instance(location="westeurope", securityProfile={"encryptionAtHost": "false"})
    r = ask.metadata("instance", **{"api-version": "1999-01-01"})
    same((r.status, len(r.json["newest-versions"])), (400, 3))
    url = "http://169.254.169.254/metadata/instance?api-version=2021-12-13"
    same(ask.raw("GET", url).status, 400)
    same(ask.raw("GET", url, {"Metadata": "true", "X-Forwarded-For": "1.2.3.4"}).status, 400)
    same(ask.raw("GET", url + "&api-version=2021-12-13", {"Metadata": "true"}).status, 400)
    same(ask.raw("POST", url, {"Metadata": "true"}).status, 405)
    same(ask.metadata("nothing").status, 404)
    assert ask.metadata("versions").json["apiVersions"]
    assert ask.metadata("identity/info").json["tenantId"]


def test_identity(ns: Namespace, ask: Caller) -> None:
    """Selection among identities, and the shape of the token's answer: all strings."""
    v = {"api-version": "2018-02-01", "resource": "https://vault.azure.net"}
    r = ask.metadata("identity/oauth2/token/", **v).json
    same({k: type(x) for k, x in r.items() if not isinstance(x, str)}, {})
    same((r["token_type"], r["resource"]), ("Bearer", "https://vault.azure.net"))
    who = ns.cloud.identity(system=False, user=["id1", "id2"])
    try:
        r = ask.metadata("identity/oauth2/token", **v)
        same((r.status, r.json), (400, {"error": "invalid_request",
                                        "error_description": "Identity not found"}))
        for selector, field in (("client_id", "client_id"), ("object_id", "object_id"),
                                ("msi_res_id", "msi_res_id"), ("mi_res_id", "msi_res_id")):
            wanted = who["user"][1]
            r = ask.metadata("identity/oauth2/token", **v, **{selector: wanted[field]})
            same(r.json["client_id"], wanted["client_id"])
        same(ask.metadata("identity/oauth2/token", **v, client_id="other").status, 400)
        ns.cloud.identity(system=False)
        same(ask.metadata("identity/oauth2/token", **v).status, 400)
    finally:
        ns.cloud.identity(system=True)
    same(ask.metadata("identity/oauth2/token", **{"api-version": "2018-02-01"}).status, 400)


def test_faults_that_answer(ns: Namespace, ask: Caller) -> None:
    for action, given, status, inner in (
            ("unauthorized", {}, 401, ""), ("wrong-resource", {}, 401, ""), ("claims", {}, 401, ""),
            ("access-denied", {}, 403, "AccessDenied"),
            ("forbidden-by-policy", {}, 403, "ForbiddenByPolicy"),
            ("forbidden-by-rbac", {}, 403, "ForbiddenByRbac"),
            ("forbidden-by-firewall", {}, 403, "ForbiddenByFirewall"),
            ("forbidden-by-connection", {}, 403, "ForbiddenByConnection"),
            ("disabled", {}, 403, "KeyDisabled"), ("not-found", {}, 404, ""),
            ("conflict", {}, 409, "ObjectIsDeletedButRecoverable"),
            ("being-deleted", {}, 409, "ObjectIsBeingDeleted"),
            ("throttled", {}, 429, "VaultRequestTypeLimitReached"),
            ("status", {"status": 503}, 503, "")):
        ns.cloud.fault(action, service="vault", host="kv1", method="GET", path="^/keys/", **given)
        same(ask.vault("GET", "/secrets", host="kv-far").status, 200)  # the filter holds
        r = ask.vault("GET", "/keys/kek1")
        same((action, r.status, r.inner), (action, status, inner))
        same((action, ask.vault("GET", "/keys/kek1").status), (action, 200))  # once
    ns.cloud.fault("wrong-resource")
    assert "example.net" in ask.vault("GET", "/keys/kek1").headers["www-authenticate"]
    ns.cloud.fault("claims")
    assert 'error="insufficient_claims"' in ask.vault("GET", "/keys").headers["www-authenticate"]
    ns.cloud.fault("throttled", retry_after=7)
    same(ask.vault("GET", "/keys/kek1").headers["retry-after"], "7")
    ns.cloud.fault("throttled")
    assert "retry-after" not in ask.vault("GET", "/keys/kek1").headers
    for action, kind in (("html", "text/html"), ("not-json", "application/json; charset=utf-8")):
        ns.cloud.fault(action)
        r = ask.vault("GET", "/keys/kek1")
        same((r.status, r.headers["content-type"]), (200, kind))
        try:
            r.json
        except ValueError:
            continue
        raise AssertionError(action)


def test_count_and_skip(ns: Namespace, ask: Caller) -> None:
    number = ns.cloud.fault("status", status=500, skip=1, count=2)
    same([ask.vault("GET", "/keys/kek1").status for _ in range(4)], [200, 500, 500, 200])
    same(ns.cloud.faults()[0]["hits"], 2)
    ns.cloud.clear(number)
    ns.cloud.fault("status", status=502, count=None)
    same([ask.vault("GET", "/keys/kek1").status for _ in range(3)], [502] * 3)
    ns.cloud.clear()
    same(ask.vault("GET", "/keys/kek1").status, 200)


def test_faults_on_the_wire(ns: Namespace, ask: Caller) -> None:
    for action, failure in (("drop", "RemoteDisconnected"), ("half-body", "IncompleteRead")):
        ns.cloud.fault(action, service="vault")
        same((action, ask.vault("GET", "/keys/kek1").failure), (action, failure))
    # over TLS this client cannot always tell a reset from an early end
    ns.cloud.fault("reset", service="vault")
    assert ask.vault("GET", "/keys/kek1").failure in ("RemoteDisconnected", "ConnectionResetError")
    ns.cloud.fault("reset", service="imds")
    same(ask.metadata("versions").failure, "ConnectionResetError")
    ns.cloud.fault("hang", service="vault")
    same(ask.vault("GET", "/keys/kek1", timeout=1).failure, "TimeoutError")
    ns.cloud.fault("huge-body", service="vault")
    same(len(ask.vault("GET", "/keys/kek1").text), 1024 * 1024)  # all that this client reads
    ns.cloud.fault("redirect", service="vault")
    r = ask.vault("GET", "/keys/kek1")
    same((r.status, r.headers["location"]), (307, "https://elsewhere.example.net/keys/kek1"))
    for action, seconds in (("delay", 1), ("trickle", 0.002)):
        begin = time.monotonic()
        ns.cloud.fault(action, service="vault", seconds=seconds)
        same(ask.vault("GET", "/keys/kek1").json["key"]["kty"], "RSA")
        assert time.monotonic() - begin >= 1, action


def test_lost_reply(ns: Namespace, ask: Caller) -> None:
    """The request is carried out, and only its answer is lost."""
    ns.cloud.fault("drop", method="PUT", apply=True)
    same(ask.vault("PUT", "/secrets/lost", {"value": "v"}).failure, "RemoteDisconnected")
    same(ask.vault("GET", "/secrets/lost").json["value"], "v")


def test_tls_faults(ns: Namespace, ask: Caller) -> None:
    for action, words in (("tls-refuse", "HANDSHAKE_FAILURE"), ("tls-wrong-name", "VERIFY_FAILED"),
                          ("tls-untrusted", "VERIFY_FAILED"), ("tls-expired", "VERIFY_FAILED")):
        ns.cloud.fault(action, host="kv1", count=1)
        same((action, ask.vault("GET", "/secrets", host="kv-far").status), (action, 200))
        r = ask.vault("GET", "/secrets")
        assert words in r.text.upper(), (action, r)
        same((action, ask.vault("GET", "/secrets").status), (action, 200))


def test_outages(ns: Namespace, ask: Caller) -> None:
    for what in ("vault", "imds", "dns"):
        ns.cloud.stop(what)
        r = ask.metadata("versions") if what == "imds" else ask.vault("GET", "/secrets")
        same((what, r.failure), (what, "NoName" if what == "dns" else "ConnectionRefusedError"))
        ns.cloud.start(what)
        r = ask.metadata("versions") if what == "imds" else ask.vault("GET", "/secrets")
        same((what, r.status), (what, 200))
    for what in ("vault", "imds"):
        ns.cloud.stop(what, silently=True)
        url = "https://kv1.vault.azure.net/" if what == "vault" else "http://169.254.169.254/"
        same((what, ask.raw("GET", url, timeout=1).failure), (what, "TimeoutError"))
        ns.cloud.start(what)
        assert ask.raw("GET", url).status
    ns.cloud.unname("kv1")
    same(ask.vault("GET", "/secrets").failure, "NoName")
    same(ask.vault("GET", "/secrets", host="kv-far").status, 200)
    ns.cloud.unname()
    same(ask.vault("GET", "/secrets").status, 200)
    same(ask.vault("GET", "/secrets", host="never-made").failure, "NoName")


def test_many_at_once(ns: Namespace, ask: Caller) -> None:
    """A machine with many volumes asks for all keys in parallel."""
    callers = [Caller(ns) for _ in range(16)]
    wrapped = ask.vault("POST", "/keys/kek1/wrapkey", {"alg": "RSA-OAEP-256", "value": "YWJj"}).json
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda c: c.vault("POST", "/keys/kek1/unwrapkey", {
            "alg": "RSA-OAEP-256", "value": wrapped["value"]}), callers))
    same([r.json["value"] for r in replies], ["YWJj"] * 16)
    for caller in callers:
        caller.close()


def test_metadata_faults(ns: Namespace, ask: Caller) -> None:
    for status, name in ((400, "invalid_request"), (404, "not_found"), (410, "gone"),
                         (429, "too_many_requests"), (500, "server_error")):
        ns.cloud.fault("status", service="imds", path="/token", status=status)
        r = ask.metadata("identity/oauth2/token", resource="x")
        same((r.status, r.json["error"]), (status, name))
    ns.cloud.fault("identity-not-found", service="imds")
    same(ask.metadata("identity/oauth2/token").json["error_description"], "Identity not found")


def test_log(ns: Namespace, ask: Caller) -> None:
    ask.vault("PUT", "/secrets/logged", {"value": "unseen"})
    row = ns.cloud.log(service="vault", method="PUT")[-1]
    same((row["host"], row["path"], row["status"], row["bearer"]),
         ("kv1.vault.azure.net", "/secrets/logged", 200, True))
    with open(f"{ns.workdir}/requests.jsonl") as f:
        text = f.read()
    assert "unseen" not in text and "eyJ" not in text


def test_save_and_load(ns: Namespace, ask: Caller) -> None:
    ask.vault("PUT", "/secrets/kept", {"value": "v"})
    path = f"{ns.workdir}/state.json"
    before = ns.cloud.state()
    ns.cloud.save(path)
    ns.cloud.remove_vault("kv1")
    same(ask.vault("GET", "/secrets/kept").failure, "NoName")
    ns.cloud.load(path)
    same(ask.vault("GET", "/secrets/kept").json["value"], "v")
    same(ns.cloud.state(), before)
