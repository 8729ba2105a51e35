# SPDX-License-Identifier: LGPL-2.1-or-later
"""The vendor's own Python clients, as Debian packages them, against the emulated cloud."""
import datetime

from azure.core.exceptions import HttpResponseError
from azure.identity import ManagedIdentityCredential
from azure.keyvault.keys import JsonWebKey, KeyClient
from azure.keyvault.keys.crypto import CryptographyClient, EncryptionAlgorithm, KeyWrapAlgorithm
from azure.keyvault.secrets import SecretClient
from cryptography.hazmat.primitives.asymmetric import rsa

URL = "https://kv1.vault.azure.net"
credential = ManagedIdentityCredential()
secrets = SecretClient(URL, credential)
keys = KeyClient(URL, credential)


def fails(status, call, *args, **kw):
    try:
        call(*args, **kw)
    except HttpResponseError as e:
        assert e.status_code == status, e
    else:
        raise AssertionError(f"no {status}")


def secret_life():
    until = datetime.datetime(2099, 1, 1, tzinfo=datetime.timezone.utc)
    first = secrets.set_secret("py", "one", content_type="BEK", tags={"MachineName": "vm1"},
                               expires_on=until)
    secrets.set_secret("py", "two")
    assert secrets.get_secret("py").value == "two"
    got = secrets.get_secret("py", first.properties.version)
    assert (got.value, got.properties.content_type, got.properties.expires_on,
            got.properties.tags) == ("one", "BEK", until, {"MachineName": "vm1"})
    assert len(list(secrets.list_properties_of_secret_versions("py"))) == 2
    for i in range(26):
        secrets.set_secret(f"py-page{i}", "x")
    names = [p.name for p in secrets.list_properties_of_secrets()]
    assert sum(n.startswith("py-page") for n in names) == 26
    secrets.update_secret_properties("py", first.properties.version, enabled=False)
    fails(403, secrets.get_secret, "py", first.properties.version)
    fails(404, secrets.get_secret, "py-none")
    deleted = secrets.begin_delete_secret("py").result()
    assert deleted.recovery_id == f"{URL}/deletedsecrets/py"
    fails(409, secrets.set_secret, "py", "three")
    secrets.begin_recover_deleted_secret("py").wait()
    assert secrets.get_secret("py").value == "two"


def key_life():
    first = keys.create_rsa_key("py", size=2048)
    client = CryptographyClient(first, credential)
    wrapped = {}
    for algorithm in (KeyWrapAlgorithm.rsa_oaep_256, KeyWrapAlgorithm.rsa_oaep,
                      KeyWrapAlgorithm.rsa1_5):
        # this client wraps by itself with the public key; only unwrapping is the vault's work
        wrapped[algorithm] = client.wrap_key(algorithm, b"a passphrase").encrypted_key
        assert client.unwrap_key(algorithm, wrapped[algorithm]).key == b"a passphrase"
    sealed = client.encrypt(EncryptionAlgorithm.rsa_oaep, b"text").ciphertext
    assert client.decrypt(EncryptionAlgorithm.rsa_oaep, sealed).plaintext == b"text"
    second = keys.rotate_key("py")
    assert second.id != first.id and keys.get_key("py").id == second.id
    assert len(list(keys.list_properties_of_key_versions("py"))) == 2
    oaep = KeyWrapAlgorithm.rsa_oaep_256
    fails(400, CryptographyClient(second, credential).unwrap_key, oaep, wrapped[oaep])
    assert client.unwrap_key(oaep, wrapped[oaep]).key == b"a passphrase"
    keys.update_key_properties("py", first.properties.version, enabled=False)
    fails(403, CryptographyClient(first.id, credential).unwrap_key, oaep, wrapped[oaep])
    keys.begin_delete_key("py").result()
    fails(404, keys.get_key, "py")
    keys.begin_recover_deleted_key("py").wait()
    assert keys.get_key("py").id == second.id


def import_key():
    numbers = rsa.generate_private_key(65537, 2048).private_numbers()
    public = numbers.public_numbers
    parts = {"n": public.n, "e": public.e, "d": numbers.d, "p": numbers.p, "q": numbers.q,
             "dp": numbers.dmp1, "dq": numbers.dmq1, "qi": numbers.iqmp}
    key = keys.import_key("py-import", JsonWebKey(kty="RSA", key_ops=["wrapKey", "unwrapKey"], **{
        k: v.to_bytes((v.bit_length() + 7) // 8, "big") for k, v in parts.items()}))
    client = CryptographyClient(key, credential)
    oaep = KeyWrapAlgorithm.rsa_oaep_256
    assert client.unwrap_key(oaep, client.wrap_key(oaep, b"x").encrypted_key).key == b"x"


def other_vaults():
    readonly = SecretClient("https://kv-readonly.vault.azure.net", credential)
    fails(403, readonly.set_secret, "py", "x")
    hsm = KeyClient("https://hsm1.managedhsm.azure.net", credential)
    client = CryptographyClient(hsm.create_oct_key("py", size=256, hardware_protected=True),
                                credential)
    aes = KeyWrapAlgorithm.aes_256
    assert client.unwrap_key(aes, client.wrap_key(aes, b"7" * 32).encrypted_key).key == b"7" * 32


for test in (secret_life, key_life, import_key, other_vaults):
    test()
    print(f"python {test.__name__}", flush=True)
