/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* key/reference.h - where the passphrase of a keyslot comes from
 *
 * The non-secret name of a passphrase, as it stands in a LUKS2 token of type "vmcrypt" (design of
 * the token: README, "The token"). Parses, checks and prints; never fetches. Anything in it that
 * does not pass the checks of key/url.h is refused, since tokens come from disks that anybody may
 * have written.
 */
#pragma once

#include "base/json.h"

#define KEY_REFERENCE_MAX_BYTES 8192 /* JSON text; a 4096-bit wrapped passphrase is 683 letters */
#define KEY_WRAPPED_MAX_LETTERS 1366 /* base64url of 1024 bytes: an 8192-bit RSA key */
#define KEY_PATH_MAX_BYTES      1024 /* keeps the whole text below KEY_REFERENCE_MAX_BYTES */

enum key_provider {
	KEY_PROVIDER_KEYVAULT,
	KEY_PROVIDER_FILE,
};

struct key_reference {
	enum key_provider provider;
	char *secret;    /* keyvault: versioned identifier of the secret */
	char *kek;       /* keyvault: versioned identifier of the KEK, or NULL */
	char *algorithm; /* with a KEK: RSA-OAEP-256, RSA-OAEP or RSA1_5 */
	char *wrapped;   /* with a KEK: the wrapped passphrase, base64url */
	char *client_id; /* user-assigned identity, or NULL for the machine's own */
	char *path;      /* file: absolute path of the key file */
	char *created;   /* RFC 3339, UTC */
};

struct key_reference *key_reference_free(struct key_reference *reference);
void key_reference_freep(struct key_reference **reference);

int key_reference_from_json(struct json_object *object, struct key_reference **ret);
int key_reference_to_json(const struct key_reference *reference, struct json_object *object);
int key_reference_check(const struct key_reference *reference);
const char *key_reference_id(const struct key_reference *reference);
const char *key_provider_to_string(enum key_provider provider);
int key_provider_from_string(const char *text, enum key_provider *ret);
