#!/usr/bin/python3 -B
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Does vmcrypt-keyfetch keep its promises against a vault that misbehaves?

  keyfetch-test.py BUILD [NAME...]     as root; BUILD is a build folder

Each test runs the real program, with its real addresses, in a namespace with the emulated cloud.
"""
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from keyclient import KeyService  # noqa: E402
from namespace import PYTHON, Namespace  # noqa: E402

PASSPHRASE = b"PATTERN-3f9c0a-correct-horse-battery-staple"
VAULT = "https://kv1.vault.azure.net"
SHORT_MS = 3000   # for what shall not be answered
LONG_MS = 20_000  # for what shall be answered, on a busy machine

# What a fetch (with a KEK) sees: fault, its arguments, condition, words of the message.
# A condition "ok" says that the fault was got over.
FETCH_FAULTS = [
    ("policy", "forbidden-by-policy", {}, "denied", "no permission to unwrap"),
    ("rbac", "forbidden-by-rbac", {}, "denied", "no role that allows it to unwrap"),
    ("no access policy", "access-denied", {}, "denied", "no access policy"),
    ("firewall", "forbidden-by-firewall", {}, "denied", "firewall"),
    ("private link", "forbidden-by-connection", {}, "denied", "private link"),
    ("disabled", "disabled", {}, "disabled", "key kek1 is disabled (403 KeyDisabled, request id "),
    ("not found", "not-found", {"path": "unwrapkey"}, "gone", "has no key kek1 (404 KeyNotFound"),
    ("throttled once", "throttled", {"count": 1}, "ok", ""),
    ("throttled with seconds", "throttled", {"count": 1, "retry_after": 1}, "ok", ""),
    ("throttled for ever", "throttled", {}, "unreachable", "throttles requests (429"),
    ("500 once", "status", {"count": 1, "status": 500}, "ok", ""),
    ("503 for ever", "status", {"status": 503}, "unreachable", "is failing (503"),
    ("405", "status", {"status": 405}, "configuration", "(405"),
    ("401 once", "unauthorized", {"count": 1}, "ok", ""),
    ("401 for ever", "unauthorized", {}, "configuration", "not even a fresh one (401 AKV10000"),
    ("a thief's challenge", "wrong-resource", {}, "configuration", "does not get one"),
    ("claims", "claims", {}, "configuration", "(401"),
    ("html with 200", "html", {"status": 200}, "corrupt", "no unwrapped passphrase"),
    ("html with 502 once", "html", {"count": 1, "status": 502}, "ok", ""),
    ("html with 403", "html", {"status": 403}, "denied", "(403, request id "),
    ("cut JSON", "not-json", {"status": 200}, "corrupt", "no unwrapped passphrase"),
    ("empty", "empty", {"status": 200}, "corrupt", "no unwrapped passphrase"),
    ("huge", "huge-body", {"bytes": 4 * 1024 * 1024}, "corrupt", "too large"),
    ("half once", "half-body", {"count": 1}, "ok", ""),
    ("half for ever", "half-body", {}, "unreachable", "broke off"),
    ("redirect", "redirect", {}, "configuration", "do not follow (307"),
    ("dropped once", "drop", {"count": 1}, "ok", ""),
    ("reset once", "reset", {"count": 1}, "ok", ""),
    ("reset for ever", "reset", {}, "unreachable", "broke off"),
    ("silence", "hang", {}, "unreachable", "did not answer in time"),
    ("another's certificate", "tls-wrong-name", {}, "configuration", "certificate"),
    ("unknown authority", "tls-untrusted", {}, "configuration", "certificate"),
    ("expired certificate", "tls-expired", {}, "configuration", "certificate has expired"),
    ("handshake refused once", "tls-refuse", {"count": 1}, "ok", ""),
]
IDENTITY_FAULTS = [
    ("no identity", "identity-not-found", {}, "configuration", "no managed identity"),
    ("410 once", "status", {"count": 1, "status": 410}, "ok", ""),
    ("429 once", "throttled", {"count": 1}, "ok", ""),
    ("500 once", "status", {"count": 1, "status": 500}, "ok", ""),
    ("404 for ever", "not-found", {}, "unreachable", "not ready (404"),
    ("403", "status", {"status": 403}, "configuration", "refused the request (403"),
    ("no JSON", "html", {"status": 200}, "corrupt", "without a token"),
    ("garbage once", "token", {"count": 1, "garbage": True}, "ok", ""),
    ("expired once", "token", {"count": 1, "lifetime": -1, "claimed": 3600}, "ok", ""),
]


def same(got: Any, want: Any) -> None:
    if got != want:
        raise AssertionError(f"got {got!r}, want {want!r}")


def expect(result: dict, condition: str, words: str = "") -> None:
    if result["condition"] != condition or words not in result.get("message", ""):
        raise AssertionError(f"got {result!r}, want {condition!r} and {words!r}")


class Tests:
    def __init__(self, ns: Namespace, build: str) -> None:
        self.ns, self.cloud = ns, ns.cloud
        self.program = os.path.join(build, "agent/program/vmcrypt-keyfetch")
        self.client = os.path.join(build, "tests/cloud/keyclient")
        self.service = KeyService(ns, self.program)
        self.reference = self.service.store("common", PASSPHRASE)["reference"]
        self.plain = self.service.store("common-plain", PASSPHRASE, kek=False)["reference"]

    def fetch(self, *references: dict, timeout_ms: int = LONG_MS, **more: Any) -> list[dict]:
        return self.service.fetch(*(references or [self.reference]), timeout_ms=timeout_ms, **more)

    def secrets(self, vault: str = "kv1") -> dict:
        return self.cloud.state()["vaults"][f"{vault}.vault.azure.net"]["secrets"]

    # fetch

    def test_fetch(self) -> None:
        """With a KEK one unwrap, without one get; one token for all of a batch."""
        self.cloud.clear_log()
        results = self.fetch(self.reference, self.plain)
        same([r["passphrase"] for r in results], [PASSPHRASE] * 2)
        same(len(self.cloud.log(service="imds")), 1)
        same(sorted(r["method"] for r in self.cloud.log(service="vault")), ["GET", "POST"])

    def test_fetch_faults(self) -> None:
        for name, action, given, condition, words in FETCH_FAULTS:
            self.cloud.clear()
            self.cloud.fault(action, service="vault", **{"count": None, **given})
            bad = condition == "unreachable"
            try:
                result, = self.fetch(timeout_ms=SHORT_MS if bad else LONG_MS)
                expect(result, condition, words)
                if condition == "ok":
                    same(result["passphrase"], PASSPHRASE)
            except AssertionError as e:
                raise AssertionError(f"{name}: {e}") from e
        same([r for r in self.cloud.log() if r["host"] == "elsewhere.example.net"], [])

    def test_identity_faults(self) -> None:
        for name, action, given, condition, words in IDENTITY_FAULTS:
            self.cloud.clear()
            self.cloud.fault(action, service="imds", path="token", **{"count": None, **given})
            bad = condition == "unreachable"
            try:
                expect(self.fetch(timeout_ms=SHORT_MS if bad else LONG_MS)[0], condition, words)
            except AssertionError as e:
                raise AssertionError(f"{name}: {e}") from e

    def test_final_is_final(self) -> None:
        """What a person must mend is asked once, and a 401 twice."""
        for action, n in (("forbidden-by-rbac", 1), ("disabled", 1), ("unauthorized", 2),
                          ("wrong-resource", 1)):
            self.cloud.clear()
            self.cloud.clear_log()
            self.cloud.fault(action, service="vault", count=None)
            self.fetch()
            same((action, len(self.cloud.log(service="vault"))), (action, n))

    def test_no_token_for_a_thief(self) -> None:
        """After a challenge for something else there is no second request."""
        self.cloud.fault("wrong-resource", service="vault", count=None,
                         resource="https://vault.azure.net.example.net")
        self.cloud.clear_log()
        expect(self.fetch()[0], "configuration", "does not get one")
        same(len(self.cloud.log(service="imds")), 1)

    def test_retry_after(self) -> None:
        """The server's wish wins over our own delay, in seconds, milliseconds or as a date."""
        for given, least, most in (({"retry_after": 3}, 2.9, 8), ({"retry_after_ms": 50}, 0, 0.55)):
            self.cloud.clear()
            self.cloud.clear_log()
            self.cloud.fault("throttled", service="vault", count=1, **given)
            expect(self.fetch()[0], "ok")
            first, second = (r["time"] for r in self.cloud.log(service="vault"))
            if not least <= second - first <= most:
                raise AssertionError(f"{given}: {second - first} seconds")

    def test_deadline(self) -> None:
        """The time that the client gives is kept, whatever happens."""
        for action in ("hang", "throttled", "drop"):
            self.cloud.clear()
            self.cloud.fault(action, service="vault", count=None)
            begin = time.monotonic()
            expect(self.fetch(timeout_ms=2000)[0], "unreachable")
            same((action, time.monotonic() - begin < 4), (action, True))

    def test_no_name(self) -> None:
        self.cloud.unname("kv1")
        try:
            expect(self.fetch(timeout_ms=SHORT_MS)[0], "unreachable", "does not resolve")
        finally:
            self.cloud.unname()

    def test_silent_dns(self) -> None:
        """A resolver that waits for a dead name server does not hold the answer back."""
        self.cloud.stop("dns")
        sink = self.ns.popen([PYTHON, "-c", "import socket, time; s = socket.socket(type=2); "
                              "s.bind(('168.63.129.16', 53)); print(flush=True); time.sleep(99)"],
                             stdout=subprocess.PIPE)
        sink.stdout.readline()
        self.service.environment["RES_OPTIONS"] = "timeout:20 attempts:5"
        begin = time.monotonic()
        try:
            expect(self.fetch(timeout_ms=2000)[0], "unreachable", "did not answer in time")
            seconds = time.monotonic() - begin
        finally:
            del self.service.environment["RES_OPTIONS"]
            sink.kill()
            sink.wait()
            sink.stdout.close()
            self.cloud.start("dns")
        assert seconds < 4, seconds

    def test_name_comes_late(self) -> None:
        """DNS that is not ready yet, as in early boot."""
        self.cloud.stop("dns")
        process, connection = self.service.start()
        with connection:
            connection.sendall(self.service.frame([{"operation": "fetch",
                                                    "reference": self.reference}], 60_000))
            time.sleep(2)
            self.cloud.start("dns")
            connection.settimeout(60)
            size, = struct.unpack("<I", connection.recv(4))
            assert b'"ok"' in connection.recv(size)
        process.stderr.read()
        process.stderr.close()
        process.wait()

    def test_vault_comes_late(self) -> None:
        self.cloud.stop("vault")
        expect(self.fetch(timeout_ms=SHORT_MS)[0], "unreachable", "cannot be reached")
        self.cloud.start("vault")
        expect(self.fetch()[0], "ok")

    def test_deleted(self) -> None:
        """Deleted is not the same as never there."""
        reference = self.service.store("to-delete", PASSPHRASE, kek=False)["reference"]
        self.cloud.delete("secrets", "kv1", "to-delete")
        expect(self.fetch(reference)[0], "gone", "deleted secret to-delete, but it is recoverable")
        self.cloud.recover("secrets", "kv1", "to-delete")
        expect(self.fetch(reference)[0], "ok")
        self.cloud.forget("secrets", "kv1", "to-delete")
        expect(self.fetch(reference)[0], "gone", "has no secret to-delete")

    def test_second_chance(self) -> None:
        """Wrapped bytes that the vault cannot decrypt: those that lie in the vault are tried."""
        letters = self.reference["wrapped"]
        broken = {**self.reference, "wrapped": letters[:20] + ("AAAA" if letters[20:24] != "AAAA"
                                                               else "BBBB") + letters[24:]}
        result, = self.fetch(broken)
        same(result.get("passphrase"), PASSPHRASE)
        self.cloud.set_secret("kv1", "other", "AAAA")
        version = self.cloud.admin("GET", "kv1", "/secrets/other")["id"]
        expect(self.fetch({**broken, "secret": version})[0], "corrupt", "does not fit")

    def test_after_rotation(self) -> None:
        self.cloud.rotate_key("kv1", "kek1")
        same(self.fetch()[0].get("passphrase"), PASSPHRASE)

    def test_client_id(self) -> None:
        """A user-assigned identity by its client id; a wrong one is named in the message."""
        self.cloud.identity(system=False, user=["one", "two"])
        try:
            expect(self.fetch()[0], "configuration", "no managed identity, or several")
            who = self.cloud.identity()["user"][1]["client_id"]
            expect(self.fetch({**self.reference, "identity": {"client_id": who}})[0], "ok")
            wrong = "00000000-0000-4000-8000-000000000000"
            expect(self.fetch({**self.reference, "identity": {"client_id": wrong}})[0],
                   "configuration", wrong)
        finally:
            self.cloud.identity(system=True)

    def test_managed_hsm(self) -> None:
        """A KEK in a Managed HSM beside a secret in a vault: two audiences, two tokens."""
        kid = self.cloud.create_key("hsm1.managedhsm.azure.net", "hsmkek")
        self.cloud.clear_log()
        result = self.service.store("in-hsm", PASSPHRASE, kek=kid)
        expect(result, "ok")
        same(len(self.cloud.log(service="imds")), 2)
        same(self.fetch(result["reference"])[0]["passphrase"], PASSPHRASE)

    # batches

    def test_batch_is_parallel(self) -> None:
        """16 answers of half a second each take far less than 8 seconds, and come in order."""
        references = [self.service.store(f"batch{i}", b"p%d" % i, kek=False)["reference"]
                      for i in range(16)]
        self.cloud.fault("delay", service="vault", count=None, seconds=0.5)
        begin = time.monotonic()
        results = self.fetch(*references)
        seconds = time.monotonic() - begin
        same([r["passphrase"] for r in results], [b"p%d" % i for i in range(16)])
        assert seconds < 4, seconds
        print(f"  16 fetches, each answered after 0.5 s: {seconds:.2f} s")
        self.cloud.clear()
        for kind, some in (("get", references), ("unwrap", [self.reference] * 16)):
            begin = time.monotonic()
            self.fetch(*some)
            print(f"  16 fetches ({kind}): {time.monotonic() - begin:.2f} s")

    def test_batch_is_mixed(self) -> None:
        """One operation's trouble is not another's."""
        results = self.fetch(self.reference, {**self.plain, "secret": f"{VAULT}/secrets/none/"
                                              + "0" * 32}, self.plain)
        same([r["condition"] for r in results], ["ok", "gone", "ok"])

    def test_batch_is_urgent(self) -> None:
        """With the root's key there, or refused, what hangs in another vault is not waited for."""
        elsewhere, second = ({**reference, member: reference[member].replace("//kv1.", "//kv-far.")}
                             for reference, member in ((self.plain, "secret"), (self.reference, "kek")))
        none = {**self.plain, "secret": f"{VAULT}/secrets/none/" + "0" * 32}
        both, late = [self.reference, elsewhere], ["ok", "unreachable"]
        rows = (
            ("no name", None, {}, 1, both, late),
            ("throttled", "throttled", {}, 1, both, late),
            ("failing", "status", {"status": 503}, 1, both, late),
            ("silent", "hang", {}, 1, both, late),
            ("got over", "status", {"status": 503, "count": 1}, 1, both, ["ok", "gone"]),
            ("one of two", "hang", {}, 2, [second, *both], ["unreachable", *late]),
            ("refused", "hang", {}, 1, [none, elsewhere], ["gone", "unreachable"]),
            ("waited for", "hang", {}, 1, [elsewhere, self.plain], ["unreachable", "ok"]),
        )
        for name, action, given, urgent, references, conditions in rows:
            self.cloud.clear()
            if action:
                self.cloud.fault(action, host="kv-far", **{"count": None, **given})
            else:
                self.cloud.unname("kv-far")
            begin = time.monotonic()
            try:
                results = self.fetch(*references, urgent=urgent, timeout_ms=9000)
            finally:
                self.cloud.unname()
            seconds = time.monotonic() - begin
            same((name, [r["condition"] for r in results]), (name, conditions))
            same((name, seconds, seconds < 7), (name, seconds, name != "waited for"))
            print(f"  {name}: {seconds:.2f} s; {results[-1].get('message', 'no message')}")

    # store

    def test_store(self) -> None:
        """What is in the vault: the wrapped bytes and what ADE's tools look for, no passphrase."""
        reference = self.service.store("stored", PASSPHRASE)["reference"]
        item = self.cloud.admin("GET", "kv1", "/secrets/stored")
        same((item["value"], item["id"], item["contentType"]),
             (reference["wrapped"], reference["secret"], "Wrapped LUKS passphrase"))
        same(item["tags"], {
            "CreatedBy": "vmcrypt", "MachineName": "vm1",
            "VolumeUUID": "3d4f6a0e-0000-4000-8000-000000000001",
            "DiskEncryptionKeyEncryptionKeyURL": reference["kek"],
            "DiskEncryptionKeyEncryptionAlgorithm": "RSA-OAEP-256"})
        assert len(reference["kek"].rsplit("/", 1)[1]) == 32
        plain = self.service.store("stored-plain", b'quo"te\\back', kek=False)["reference"]
        item = self.cloud.admin("GET", "kv1", "/secrets/stored-plain")
        same((item["value"], item["contentType"]), ('quo"te\\back', "LUKS passphrase"))
        same(self.fetch(plain)[0]["passphrase"], b'quo"te\\back')

    def test_store_binary(self) -> None:
        expect(self.service.store("binary", b"\x00\xff\n", kek=False), "configuration", "needs a")
        reference = self.service.store("binary", b"\x00\xff\n")["reference"]
        same(self.fetch(reference)[0]["passphrase"], b"\x00\xff\n")

    def test_store_reads_back(self) -> None:
        """No reference without a proof: get and unwrap refused, or something else comes back."""
        for path, method, condition in (("/secrets/", "GET", "denied"),
                                        ("unwrapkey", "POST", "denied")):
            self.cloud.clear()
            self.cloud.fault("forbidden-by-rbac", service="vault", method=method, path=path,
                             count=None)
            expect(self.service.store("proof", PASSPHRASE), condition)
        self.cloud.clear()
        self.cloud.fault("status", service="vault", method="GET", path="/secrets/", count=None,
                         status=200, body={"value": "AAAA", "id": f"{VAULT}/secrets/proof/1"})
        expect(self.service.store("proof", PASSPHRASE), "corrupt", "not the one that was set")
        self.cloud.clear()
        self.cloud.fault("status", service="vault", path="unwrapkey", count=None, status=200,
                         body={"value": "AAAA", "kid": self.reference["kek"]})
        expect(self.service.store("proof", PASSPHRASE), "corrupt", "not the passphrase")

    def test_store_lost_reply(self) -> None:
        """A set whose answer was lost is found, and not done again."""
        for i, action in enumerate(("drop", "half-body", "reset")):
            self.cloud.clear()
            self.cloud.fault(action, service="vault", method="PUT", count=1, apply=True)
            name = f"lost{i}"
            result = self.service.store(name, PASSPHRASE)
            expect(result, "ok")
            same((action, len(self.secrets()[name]["versions"])), (action, 1))
            same(self.fetch(result["reference"])[0]["passphrase"], PASSPHRASE)

    def test_store_is_repeated(self) -> None:
        """A set that was not done is done again."""
        for i, (action, given) in enumerate((("throttled", {}), ("status", {"status": 500}),
                                             ("drop", {}))):
            self.cloud.clear()
            self.cloud.fault(action, service="vault", method="PUT", count=2, **given)
            expect(self.service.store(f"again{i}", PASSPHRASE), "ok")
            same(len(self.secrets()[f"again{i}"]["versions"]), 1)

    def test_store_refusals(self) -> None:
        self.cloud.delete("secrets", "kv1", self.service.store(
            "gone", PASSPHRASE)["reference"]["secret"].split("/")[4])
        expect(self.service.store("gone", PASSPHRASE), "gone", "recover it, or purge it")
        expect(self.service.store("ro", PASSPHRASE, kek=False, vault="https://kv-readonly"
                                  ".vault.azure.net"), "denied", "no permission to set secrets")
        expect(self.service.store("a/b", PASSPHRASE), "configuration", "name")
        expect(self.service.store("x", PASSPHRASE, vault="https://kv1.example.net"),
               "configuration", "does not name a key vault")
        expect(self.service.store("x", PASSPHRASE, kek="http://kv1.vault.azure.net/keys/kek1"),
               "configuration", "https")
        expect(self.service.store("x", PASSPHRASE, algorithm="ROT13"), "configuration")
        expect(self.service.store("x", b"a" * 200), "configuration")  # too long for the KEK

    # probe

    def probe(self, **more: Any) -> dict:
        return self.service.ask([{"operation": "probe", "vault": VAULT, "name": "vmcrypt-probe-vm1",
                                  "kek": f"{VAULT}/keys/kek1", **more}])[0]["probe"]

    def test_probe(self) -> None:
        found = self.probe()
        for what in ("set", "get", "wrap", "unwrap", "metadata"):
            same((what, found[what]), (what, {"condition": "ok"}))
        same((found["vault_region"], found["vault_recovery_level"], found["kek_recovery_level"]),
             ("westeurope", "Recoverable", "Recoverable"))
        same((found["machine_location"], found["machine_name"]), ("westeurope", "vm1"))
        same((found["kek_is_disabled"], found["kek_is_expired"], found["has_encryption_at_host"]),
             (False, False, False))

    def test_probe_sees_each_permission(self) -> None:
        names = {"set": "set", "get": "get", "wrap": "wrapKey", "unwrap": "unwrapKey"}
        for without in names:
            granted = {"secrets": [v for k, v in names.items() if k in ("set", "get")
                                   and k != without],
                       "keys": ["get"] + [v for k, v in names.items() if "wrap" in k
                                          and k != without]}
            self.cloud.vault("kv1", permissions=granted)
            try:
                found = self.probe(name=f"probe-without-{without}")
            finally:
                self.cloud.vault("kv1", permissions=None)
            same((without, {k: found[k]["condition"] for k in names}),
                 (without, {k: "denied" if k == without else "ok" for k in names}))

    def test_probe_facts(self) -> None:
        self.cloud.create_key("kv-purgeable", "kek2")
        self.cloud.instance(location="northeurope", securityProfile={"encryptionAtHost": "true"})
        vault = "https://kv-purgeable.vault.azure.net"
        self.cloud.admin("PATCH", "kv-purgeable", "/keys/kek2/", {"attributes": {"exp": 1}})
        found = self.probe(vault=vault, kek=f"{vault}/keys/kek2")
        self.cloud.instance(location="westeurope", securityProfile={"encryptionAtHost": "false"})
        same((found["vault_recovery_level"], found["kek_recovery_level"], found["kek_is_expired"],
              found["has_encryption_at_host"], found["machine_location"]),
             ("Recoverable+Purgeable", "Recoverable+Purgeable", True, True, "northeurope"))
        expect(found["wrap"], "denied", "expired")
        expect(found["unwrap"], "ok")

    # the connection

    def test_bad_frames(self) -> None:
        """What is not a request gets no answer, a line on standard error, and no crash."""
        good = self.service.frame([{"operation": "fetch", "reference": self.reference}])
        store = {"operation": "store", "vault": VAULT, "name": "x", "passphrase_bytes": 5}
        rows = [
            ("nothing", b""), ("half a length", good[:2]), ("half a request", good[:-9]),
            ("empty", struct.pack("<I", 0)), ("huge", struct.pack("<I", 1 << 30) + b"{"),
            ("no JSON", struct.pack("<I", 3) + b"abc"),
            ("deep", struct.pack("<I", 40000) + b"[" * 40000),
            ("no operations", self.service.frame([])),
            ("too many", self.service.frame([{"operation": "fetch",
                                              "reference": self.plain}] * 65)),
            ("unknown verb", self.service.frame([{"operation": "delete"}])),
            ("wrong type", self.service.frame([{**store, "name": 5}], passphrases=(b"12345",))),
            ("size is text", self.service.frame([{**store, "passphrase_bytes": "5"}])),
            ("secret too large", self.service.frame([{**store, "passphrase_bytes": 1 << 20}])),
            ("secret cut", self.service.frame([store], passphrases=(b"123",))),
            ("no time", self.service.frame([store], 0, (b"12345",))),
            ("a bad reference", self.service.frame([{"operation": "fetch", "reference": {
                **self.plain, "secret": "https://evil.example/secrets/a/" + "0" * 32}}])),
        ]
        for name, frame in rows:
            process, connection = self.service.start()
            with connection:
                connection.settimeout(30)
                try:
                    connection.sendall(frame)
                    connection.shutdown(1)
                    answer = connection.recv(10)
                except (BrokenPipeError, ConnectionResetError):
                    answer = b""
            errors = process.stderr.read().decode()
            process.stderr.close()
            same((name, answer, process.wait(), "not usable" in errors), (name, b"", 1, True))

    def test_only_root(self) -> None:
        """The peer's user id decides, not what the socket's mode lets through."""
        import socket
        listener = socket.socket(socket.AF_UNIX)
        path = os.path.join(self.ns.workdir, "peer.sock")
        listener.bind(path)
        os.chmod(path, 0o777)
        os.chmod(self.ns.workdir, 0o755)
        listener.listen(1)
        child = os.fork()
        if child == 0:
            os.setgid(65534)
            os.setuid(65534)
            stranger = socket.socket(socket.AF_UNIX)
            stranger.connect(path)
            time.sleep(30)
            os._exit(0)
        theirs, _ = listener.accept()
        done = self.ns.run([self.program], stdin=theirs, capture_output=True, timeout=30)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        listener.close()
        theirs.close()
        same((done.returncode, b"no connection of root" in done.stderr), (1, True))

    def test_client_leaves(self) -> None:
        """Nobody waits: the service ends and does not go on asking."""
        self.cloud.fault("throttled", service="vault", count=None)
        process, connection = self.service.start()
        connection.sendall(self.service.frame([{"operation": "fetch",
                                                "reference": self.reference}], 300_000))
        time.sleep(1)
        connection.close()
        process.stderr.read()
        process.stderr.close()
        same(process.wait(10), 0)

    # the client

    def run_client(self, *before: str) -> list[str]:
        """The client in a mount namespace of its own, where /run/vmcrypt is empty at first."""
        script = ('set -e; mount --bind "$CA" /etc/ssl/certs/ca-certificates.crt; '
                  'mount -t tmpfs none /mnt; mkdir -p /run/vmcrypt; '
                  'mount -t tmpfs none /run/vmcrypt; ' + "".join(before) +
                  f' "$CLIENT" {VAULT} {VAULT}/keys/kek1 /mnt/keys')
        done = self.ns.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, env={
            **self.service.environment, "CA": self.ns.ca_pem, "CLIENT": self.client,
            "PROGRAM": self.program})
        same((done.returncode, done.stdout == ""), (0, False))
        return done.stdout.splitlines()

    def test_client(self) -> None:
        """agent/key/client.h over a socket that starts the service for each connection."""
        lines = self.run_client(
            'systemd-socket-activate -l /run/vmcrypt/keyfetch.sock -a --inetd "$PROGRAM" & ',
            'trap "kill $!" EXIT; ',
            'while ! [ -S /run/vmcrypt/keyfetch.sock ]; do sleep 0.05; done; ')
        same(lines, ["store keyvault: ok", "store file: ok", "fetch file: ok same",
                     "fetch keyvault: ok same", lines[4], "probe set: ok", "probe unnamed: ok",
                     "region: westeurope"])
        assert lines[4].startswith("fetch absent: gone Key file /nowhere/at/all "), lines[4]
        assert "vmcrypt-probe-vm1-example-net" in self.secrets()

    def test_client_without_service(self) -> None:
        lines = self.run_client()
        assert lines[0].startswith("store keyvault: unreachable The key service "), lines
        same(lines[1], "store file: ok")

    def test_client_and_broken_service(self) -> None:
        lines = self.run_client(
            'systemd-socket-activate -l /run/vmcrypt/keyfetch.sock -a --inetd /bin/true & ',
            'trap "kill $!" EXIT; ',
            'while ! [ -S /run/vmcrypt/keyfetch.sock ]; do sleep 0.05; done; ')
        assert lines[0].startswith("store keyvault: unreachable The key service (vmcrypt-keyfetch) "
                                   "gave no usable answer"), lines

    # secrets

    def test_nothing_leaks(self) -> None:
        """No passphrase and no token on standard error, not even in debug; none in the environment."""
        for kek in (True, False):
            self.cloud.clear()
            self.cloud.fault("throttled", service="vault", count=1, retry_after_ms=10)
            reference = self.service.store("leak", PASSPHRASE, kek=kek)["reference"]
            errors = self.service.errors
            self.fetch(reference)
            errors += self.service.errors
            assert b"request id" in errors
            for word in (PASSPHRASE, b"Bearer", b"eyJ", b"?api-version",
                         reference.get("wrapped", "eyJ").encode()):
                assert word not in errors, word

    def test_memory_is_locked(self) -> None:
        """All memory is locked, no core can be dumped, and nobody but root can look inside."""
        self.cloud.fault("hang", service="vault", count=None)
        process, connection = self.service.start()
        connection.sendall(self.service.frame([{"operation": "fetch",
                                                "reference": self.reference}], 30_000))
        time.sleep(1.5)
        with open(f"/proc/{process.pid}/status") as f:
            status = dict(line.split(":", 1) for line in f)
        with open(f"/proc/{process.pid}/limits") as f:
            core, = (line.split()[4:6] for line in f if line.startswith("Max core"))
        size, locked = (int(status[k].split()[0]) for k in ("VmRSS", "VmLck"))
        print(f"  resident {size} kB, locked {locked} kB")
        same(core, ["0", "0"])
        assert locked >= size * 9 // 10 > 0, (size, locked)
        before = set(os.listdir(self.ns.workdir))
        os.kill(process.pid, signal.SIGSEGV)
        same(process.wait(10), -signal.SIGSEGV)  # not WCOREDUMP, which Python adds no sign for
        same(set(os.listdir(self.ns.workdir)), before)
        process.stderr.close()
        connection.close()

    def test_proxy(self) -> None:
        """https_proxy= is used for the vault, and never for the identity."""
        self.service.environment["https_proxy"] = "http://127.0.0.1:9"
        self.service.environment["http_proxy"] = "http://127.0.0.1:9"
        self.cloud.clear_log()
        try:
            expect(self.fetch(timeout_ms=SHORT_MS)[0], "unreachable", "cannot be reached")
        finally:
            del self.service.environment["https_proxy"], self.service.environment["http_proxy"]
        same((len(self.cloud.log(service="imds")), len(self.cloud.log(service="vault"))), (1, 0))


def main() -> int:
    build, names = os.path.abspath(sys.argv[1]), sys.argv[2:]
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="vmcrypt-keyfetch-") as folder, \
            Namespace(folder) as ns:
        tests = Tests(ns, build)
        for name, test in vars(Tests).items():
            title = name.removeprefix("test_").replace("_", "-")
            if not name.startswith("test_") or (names and title not in names):
                continue
            ns.cloud.clear()
            begin = time.monotonic()
            try:
                test(tests)
                result, passed = "PASS", passed + 1
            except Exception:
                traceback.print_exc()
                result, failed = "FAIL", failed + 1
            print(f"{result} {title} {time.monotonic() - begin:.1f}", flush=True)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
