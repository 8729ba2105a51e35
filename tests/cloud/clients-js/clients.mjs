// SPDX-License-Identifier: LGPL-2.1-or-later
// The vendor's own clients, unmodified and with their defaults, against the emulated cloud.
import assert from "node:assert/strict";
import { ManagedIdentityCredential } from "@azure/identity";
import { CryptographyClient, KeyClient } from "@azure/keyvault-keys";
import { SecretClient } from "@azure/keyvault-secrets";
import { generateKeyPairSync, webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto; // Debian 12 has node 18, where this is not yet the default

const url = "https://kv1.vault.azure.net";
const credential = new ManagedIdentityCredential();
const secrets = new SecretClient(url, credential);
const keys = new KeyClient(url, credential);

async function all(pages) {
  const rows = [];
  for await (const row of pages) rows.push(row);
  return rows;
}

const quick = { intervalInMs: 50 };

async function done(poller) {
  return (await poller).pollUntilDone();
}

function same(bytes, wanted) {
  assert.deepEqual(Buffer.from(bytes), wanted);
}

async function fails(promise, statusCode, code) {
  const error = await promise.then(() => assert.fail(`no ${statusCode}`), (e) => e);
  assert.equal(error.statusCode, statusCode, String(error));
  if (code) assert.equal(error.code, code);
  return error;
}

async function secretLife() {
  const expiresOn = new Date("2035-01-01T00:00:00Z"); // this client cuts times to 32 bits
  const first = await secrets.setSecret("js", "one", {
    contentType: "Wrapped BEK", tags: { MachineName: "vm1" }, expiresOn });
  await secrets.setSecret("js", "two");
  assert.equal((await secrets.getSecret("js")).value, "two");
  const { version } = first.properties;
  const got = await secrets.getSecret("js", { version });
  assert.equal(got.value, "one");
  assert.equal(got.properties.contentType, "Wrapped BEK");
  assert.deepEqual(got.properties.tags, { MachineName: "vm1" });
  assert.deepEqual(got.properties.expiresOn, expiresOn);
  assert.equal(got.properties.recoveryLevel, "Recoverable");

  assert.equal((await all(secrets.listPropertiesOfSecretVersions("js"))).length, 2);
  for (let i = 0; i < 26; i++) await secrets.setSecret(`js-page${i}`, "x");
  const names = (await all(secrets.listPropertiesOfSecrets())).map((p) => p.name);
  assert.equal(names.filter((n) => n.startsWith("js-page")).length, 26);

  const updated = await secrets.updateSecretProperties("js", version, { enabled: false });
  assert.equal(updated.enabled, false);
  await fails(secrets.getSecret("js", { version }), 403, "Forbidden");
  await fails(secrets.getSecret("js-none"), 404, "SecretNotFound");

  const deleted = await done(secrets.beginDeleteSecret("js", quick));
  assert.equal(deleted.recoveryId, `${url}/deletedsecrets/js`);
  await fails(secrets.setSecret("js", "three"), 409, "Conflict");
  await fails(secrets.purgeDeletedSecret("js"), 403);
  await done(secrets.beginRecoverDeletedSecret("js", quick));
  assert.equal((await secrets.getSecret("js")).value, "two");
}

async function keyLife() {
  const first = await keys.createRsaKey("js", { keySize: 2048, tags: { a: "b" } });
  assert.equal(first.keyType, "RSA");
  assert.equal(first.key.n.length, 256);
  const plain = Buffer.from("a passphrase");
  const wrapped = {};
  for (const algorithm of ["RSA-OAEP-256", "RSA-OAEP", "RSA1_5"]) {
    const client = new CryptographyClient(first, credential);
    const { result, keyID } = await client.wrapKey(algorithm, plain);
    assert.equal(keyID, first.id);
    same((await client.unwrapKey(algorithm, result)).result, plain);
    wrapped[algorithm] = result;
  }
  const second = await keys.rotateKey("js");
  assert.notEqual(second.id, first.id);
  assert.equal((await keys.getKey("js")).id, second.id);
  await fails(new CryptographyClient(second, credential)
    .unwrapKey("RSA-OAEP-256", wrapped["RSA-OAEP-256"]), 400, "BadParameter");
  assert.equal((await all(keys.listPropertiesOfKeyVersions("js"))).length, 2);
  const old = new CryptographyClient(first.id, credential);
  same((await old.unwrapKey("RSA-OAEP", wrapped["RSA-OAEP"])).result, plain);

  await keys.updateKeyProperties("js", first.properties.version, { enabled: false });
  await fails(new CryptographyClient(first.id, credential)
    .unwrapKey("RSA-OAEP", wrapped["RSA-OAEP"]), 403);

  const policy = await keys.updateKeyRotationPolicy("js", {
    expiresIn: "P2Y", lifetimeActions: [{ action: "Rotate", timeAfterCreate: "P18M" }] });
  assert.equal(policy.expiresIn, "P2Y");
  assert.equal((await keys.getKeyRotationPolicy("js")).lifetimeActions[0].timeAfterCreate, "P18M");

  await done(keys.beginDeleteKey("js", quick));
  await fails(keys.getKey("js"), 404, "KeyNotFound");
  await done(keys.beginRecoverDeletedKey("js", quick));
  assert.equal((await keys.getKey("js")).id, second.id);
  assert.equal((await keys.createEcKey("js-ec", { curve: "P-256" })).key.crv, "P-256");
}

async function importKey() {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const jwk = privateKey.export({ format: "jwk" });
  const bytes = Object.fromEntries(Object.entries(jwk).map(([k, v]) =>
    [k, k === "kty" ? v : Buffer.from(v, "base64url")]));
  const key = await keys.importKey("js-import", bytes);
  const client = new CryptographyClient(key, credential);
  const { result } = await client.wrapKey("RSA-OAEP-256", Buffer.from("x"));
  same((await client.unwrapKey("RSA-OAEP-256", result)).result, Buffer.from("x"));
}

async function otherVaults() {
  const readonly = new SecretClient("https://kv-readonly.vault.azure.net", credential);
  await fails(readonly.setSecret("js", "x"), 403, "Forbidden");
  const hsm = new KeyClient("https://hsm1.managedhsm.azure.net", credential);
  const key = await hsm.createOctKey("js", { keySize: 256, hsm: true });
  assert.equal(key.keyType, "oct-HSM");
  const client = new CryptographyClient(key, credential);
  const { result } = await client.wrapKey("A256KW", Buffer.alloc(32, 7));
  same((await client.unwrapKey("A256KW", result)).result, Buffer.alloc(32, 7));
}

for (const test of [secretLife, keyLife, importKey, otherVaults]) {
  await test();
  console.log(`js ${test.name}`);
}
