# SPDX-License-Identifier: LGPL-2.1-or-later
"""The keys of a vault, and what one can do with them; the cryptography is real.

Sources: Key Vault REST API reference, "Keys"; RFC 7518 (JSON Web Algorithms); RFC 3394 (AES-KW).
"""
import os
import time
from typing import Any

from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

import refusal
from identity import b64url, unb64url
from store import Store
from wire import Answer, Request

RSA_SIZES = (2048, 3072, 4096)
RSA_OPS = ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"]
CURVES = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}
OPERATIONS = {"wrapkey": "wrapKey", "unwrapkey": "unwrapKey", "encrypt": "encrypt",
              "decrypt": "decrypt"}
AES_WRAP = {"A128KW": 16, "A192KW": 24, "A256KW": 32}


def rsa_padding(algorithm: str) -> Any:
    """The padding of an RSA algorithm, and the bytes that it takes of the modulus."""
    if algorithm == "RSA-OAEP":
        return padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None), 42
    if algorithm == "RSA-OAEP-256":
        return padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None), 66
    if algorithm == "RSA1_5":
        return padding.PKCS1v15(), 11
    raise refusal.bad_parameter(f"Property 'alg' has invalid value: {algorithm}\r\n")


def integer(value: int) -> str:
    return b64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def load(record: dict) -> Any:
    return serialization.load_pem_private_key(record["pem"].encode(), None)


class Keys(Store):
    kind, id_field = "keys", "kid"

    def jwk(self, item: dict, record: dict) -> dict:
        jwk = {"kid": self.identifier(item, record), "kty": record["kty"],
               "key_ops": record["key_ops"]}
        if "pem" not in record:
            return jwk  # a symmetric key never shows itself
        public = load(record).public_key().public_numbers()
        if record["kty"].startswith("RSA"):
            return {**jwk, "n": integer(public.n), "e": integer(public.e)}
        size = {"P-256": 32, "P-384": 48, "P-521": 66}[record["crv"]]
        return {**jwk, "crv": record["crv"], "x": b64url(public.x.to_bytes(size, "big")),
                "y": b64url(public.y.to_bytes(size, "big"))}

    def bundle(self, item: dict, record: dict, value: bool = True) -> dict:
        bundle = {"key": self.jwk(item, record), "attributes": self.attributes(record)}
        return {**bundle, "tags": record["tags"]} if record["tags"] else bundle

    def attributes(self, record: dict) -> dict:
        hard = record["kty"].endswith("-HSM")
        return {**super().attributes(record), "exportable": False,
                "hsmPlatform": "2" if hard else "0"}

    # making keys

    def _record(self, private: Any, kty: str, body: dict, **own: Any) -> dict:
        pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                    serialization.NoEncryption()).decode()
        default = RSA_OPS if kty.startswith("RSA") else ["sign", "verify"]
        return {"kty": kty, "key_ops": body.get("key_ops") or default, "pem": pem, **own}

    def _generate(self, body: dict) -> dict:
        kty = body.get("kty", "")
        if self.vault.hsm and kty in ("RSA", "EC", "oct"):
            kty += "-HSM"
        if kty in ("RSA", "RSA-HSM"):
            size = body.get("key_size") or 2048
            if size not in RSA_SIZES:
                raise refusal.bad_parameter("Property 'key_size' has invalid value\r\n")
            exponent = body.get("public_exponent") or 65537
            return self._record(rsa.generate_private_key(exponent, size), kty, body, size=size)
        if kty in ("EC", "EC-HSM"):
            curve = body.get("crv") or "P-256"
            if curve not in CURVES:
                raise refusal.bad_parameter("Property 'crv' has invalid value\r\n")
            return self._record(ec.generate_private_key(CURVES[curve]()), kty, body, crv=curve)
        if kty == "oct-HSM" and self.vault.hsm:
            size = body.get("key_size") or 256
            if size not in (128, 192, 256):
                raise refusal.bad_parameter("Property 'key_size' has invalid value\r\n")
            return {"kty": kty, "key_ops": body.get("key_ops") or ["wrapKey", "unwrapKey"],
                    "k": b64url(os.urandom(size // 8)), "size": size}
        raise refusal.bad_parameter(f"Property 'kty' has invalid value: {kty}\r\n")

    def create(self, name: str, body: dict) -> dict:
        self.check_name(name)
        return self.bundle(*self.add(name, body, **self._generate(body)))

    def import_key(self, name: str, body: dict) -> dict:
        jwk = body.get("key") or {}
        kty = jwk.get("kty", "")
        hard = "-HSM" if body.get("Hsm") or body.get("hsm") or self.vault.hsm else ""
        ops = {"key_ops": jwk.get("key_ops") or body.get("key_ops")}
        if not kty.startswith("RSA"):
            raise refusal.bad_parameter("Only RSA keys can be imported into this emulator\r\n")
        try:
            n, e, d, p, q, dp, dq, qi = (int.from_bytes(unb64url(jwk[f]), "big") for f in
                                         ("n", "e", "d", "p", "q", "dp", "dq", "qi"))
            private = rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi,
                                            rsa.RSAPublicNumbers(e, n)).private_key()
        except (KeyError, ValueError) as problem:
            raise refusal.bad_parameter(f"The key is not valid: {problem}\r\n") from problem
        record = self._record(private, "RSA" + (hard or kty[3:]), ops, size=private.key_size)
        return self.bundle(*self.add(name, body, **record))

    def rotate(self, name: str) -> dict:
        """A new version like the newest; older versions stay and nothing is wrapped anew."""
        item, last = self.find(name)
        like = {"kty": last["kty"], "key_size": last.get("size"), "crv": last.get("crv"),
                "key_ops": last["key_ops"]}
        return self.bundle(*self.add(item["name"], {"tags": last["tags"]}, **self._generate(like)))

    # using keys

    def operate(self, operation: str, item: dict, record: dict, body: dict) -> dict:
        self._allowed(operation, record)
        algorithm = body.get("alg")
        if not isinstance(algorithm, str):
            raise refusal.bad_parameter("Property 'alg' is required.\r\n")
        value = self._bytes(body.get("value"))
        seal = operation in ("wrapKey", "encrypt")
        if algorithm in AES_WRAP and record["kty"] == "oct-HSM":
            result = self._aes(algorithm, record, value, seal)
        elif record["kty"].startswith("RSA"):
            result = self._rsa(algorithm, record, value, seal)
        else:
            raise refusal.bad_parameter(f"Key and algorithm do not fit: {algorithm}\r\n")
        answer = {"kid": self.identifier(item, record), "value": b64url(result)}
        return {**answer, "alg": algorithm} if self.vault.hsm else answer

    @staticmethod
    def _allowed(operation: str, record: dict) -> None:
        """Disabled blocks all; outside nbf and exp only making new ciphertext is refused."""
        if not record["enabled"]:
            raise refusal.disabled("keys", operation)
        if operation not in record["key_ops"]:
            raise refusal.operation_forbidden(operation)
        now = time.time()
        if operation in ("wrapKey", "encrypt"):
            if record["exp"] is not None and now >= record["exp"]:
                raise refusal.outside_validity(operation, expired=True)
            if record["nbf"] is not None and now < record["nbf"]:
                raise refusal.outside_validity(operation, expired=False)

    def _bytes(self, text: Any) -> bytes:
        """base64url; padding is tolerated unless the vault is told to be strict."""
        wrong = refusal.bad_parameter("Content of 'value' is not base64url.\r\n"
                                      "Property 'value' is required.\r\n")
        if not isinstance(text, str) or not text:
            raise wrong
        bare = text if self.vault.strict_base64 else text.rstrip("=")
        if not all(c.isascii() and (c.isalnum() or c in "-_") for c in bare) or len(bare) % 4 == 1:
            raise wrong
        return unb64url(bare)

    @staticmethod
    def _rsa(algorithm: str, record: dict, value: bytes, seal: bool) -> bytes:
        scheme, overhead = rsa_padding(algorithm)
        private = load(record)
        if seal:
            if len(value) > private.key_size // 8 - overhead:
                raise refusal.bad_parameter("The parameter is incorrect.\r\n")
            return private.public_key().encrypt(value, scheme)
        try:
            return private.decrypt(value, scheme)
        except ValueError as problem:
            raise refusal.bad_parameter("Error occurred while decoding OAEP padding.") from problem

    @staticmethod
    def _aes(algorithm: str, record: dict, value: bytes, seal: bool) -> bytes:
        key = unb64url(record["k"])
        if len(key) != AES_WRAP[algorithm]:
            raise refusal.bad_parameter("Key size and algorithm do not fit\r\n")
        try:
            return (keywrap.aes_key_wrap if seal else keywrap.aes_key_unwrap)(key, value)
        except (ValueError, keywrap.InvalidUnwrap) as problem:
            raise refusal.bad_parameter("The parameter is incorrect.\r\n") from problem

    # the interface

    def answer(self, request: Request, parts: list[str]) -> Answer:
        """`parts`: the path behind /keys. The vault has checked who may."""
        method = request.method
        if not parts:
            return self.list(request)
        name, rest = parts[0], [p.lower() for p in parts[1:]]
        last = rest[-1] if rest else ""
        if last == "versions":
            return self.versions(request, name)
        if last == "create":
            return Answer(200, self.create(name, request.json()))
        if last == "rotate":
            return Answer(200, self.rotate(name))
        if last == "rotationpolicy":
            return self._policy(request, name)
        if method == "PUT":
            return Answer(200, self.import_key(name, request.json()))
        if method == "DELETE":
            return Answer(200, self.delete(name))
        if last in OPERATIONS:
            item, record = self.find(name, rest[0] if len(rest) > 1 else "")
            return Answer(200, self.operate(OPERATIONS[last], item, record, request.json()))
        item, record = self.find(name, last)
        if method == "PATCH":
            body = request.json()
            self.change(record, body)
            if body.get("key_ops"):
                record["key_ops"] = body["key_ops"]
            record["updated"] = self.vault.now()
        return Answer(200, self.bundle(item, record))

    def _policy(self, request: Request, name: str) -> Answer:
        item, _ = self.find(name)
        if request.method == "PUT":
            now = self.vault.now()
            item["policy"] = {**request.json(), "created": now, "updated": now}
        policy = item.get("policy") or {"lifetimeActions": [
            {"trigger": {"timeBeforeExpiry": "P30D"}, "action": {"type": "Notify"}}],
            "attributes": {"expiryTime": None}}
        policy = dict(policy)
        times = {k: policy.pop(k, self.vault.now()) for k in ("created", "updated")}
        return Answer(200, {"id": f"{self.identifier(item)}/rotationpolicy", **policy,
                            "attributes": {**policy.get("attributes", {}), **times}})
