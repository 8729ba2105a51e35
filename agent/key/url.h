/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* key/url.h - the addresses that a vault, a key and a secret have
 *
 * Parses and checks; never resolves or connects. Accepts only https, a known key vault suffix (all
 * Azure clouds, vaults and Managed HSM), port 443 or none, and the characters that the service
 * allows. Source: Key Vault REST API reference, "Keys, secrets, and certificates overview", object
 * identifiers.
 */
#pragma once

#include <stddef.h>

#define KEY_URL_MAX_BYTES 1024 /* an identifier has at most 24+22+127+32 letters and separators */

enum {
	KEY_URL_E_SCHEME = 1, /* not https:// */
	KEY_URL_E_HOST,       /* no vault name, or a host that is no key vault */
	KEY_URL_E_PATH,   /* not the path of such an object, or characters that it cannot have */
	KEY_URL_E_LENGTH, /* empty or too long */
};

enum key_url_kind {
	KEY_URL_VAULT,  /* https://NAME.SUFFIX[:443][/] */
	KEY_URL_SECRET, /* …/secrets/NAME[/VERSION] */
	KEY_URL_KEY,    /* …/keys/NAME[/VERSION] */
};

struct key_url {
	char vault[128]; /* host name in lower case, "kv1.vault.azure.net" */
	char suffix[64]; /* "vault.azure.net": also the token's audience, with https:// before it */
	char name[128];  /* object; empty for a vault */
	char version[64]; /* empty = latest */
};

int key_url_parse(const char *text, enum key_url_kind kind, struct key_url *ret);
const char *key_url_problem(int condition);
