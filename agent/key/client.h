/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* key/client.h - asks for passphrases, stores them, and proves that both work
 *
 * The only way from a key reference to secret bytes. Provider "keyvault" goes to the key service
 * (vmcrypt-keyfetch) over its socket, one batch a connection; provider "file" is read and written
 * here. Never touches the network or a volume itself.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/secret.h"
#include "key/reference.h"

#define KEY_BATCH_MAX   64 /* keyslots are at most 32 a volume; Azure attaches at most 64 disks */
#define KEY_SOCKET_PATH "/run/vmcrypt/keyfetch.sock"

enum {
	KEY_E_DENIED = 1,  /* the vault (or the file's mode) says no: a person must act */
	KEY_E_UNREACHABLE, /* no answer in time, throttled, or failing: try again later */
	KEY_E_GONE,        /* no such secret, key or version, or it is deleted */
	KEY_E_DISABLED,    /* the secret or the KEK is disabled */
	KEY_E_CONFIG,      /* no identity, wrong tenant, wrong address: a person must act */
	KEY_E_CORRUPT,     /* the answer is not what was stored, or not of the expected form */
};

/* What became of one operation. Text is for people and holds no secret. */
struct key_result {
	int condition; /* 0 or KEY_E_* */
	char *message; /* one sentence, with HTTP status, code and request id; NULL on 0 */
	struct secret *passphrase;       /* fetch */
	struct key_reference *reference; /* store: versioned ids, wrapped bytes */
};

struct key_store {
	enum key_provider provider;
	const char *vault; /* keyvault: address of the vault */
	const char *name;  /* keyvault: name of the secret, [0-9A-Za-z-]{1,127}; file: file name in
			      @directory */
	const char *kek;   /* keyvault: address of the KEK, versioned or not; or NULL */
	const char *algorithm; /* with a KEK; NULL = RSA-OAEP-256 */
	const char *client_id; /* or NULL */
	const char *directory; /* file: made 0700 if absent */
	const char *volume;    /* UUID, becomes a tag of the secret */
	const char *machine;   /* host name, becomes a tag */
};

/* What a set/get (and wrap/unwrap) round trip with the machine's own identity has shown. */
struct key_probe {
	struct key_result set, get, wrap, unwrap,
		metadata;           /* wrap, unwrap: condition 0 when there is no KEK */
	char *vault_region;         /* x-ms-keyvault-region, or NULL */
	char *vault_recovery_level; /* "Recoverable+Purgeable" …, or NULL */
	char *kek_recovery_level;
	bool kek_is_disabled, kek_is_expired;
	char *machine_location; /* instance metadata, or NULL */
	char *machine_name;
	bool has_encryption_at_host;
};

void key_result_clear(struct key_result *result);
void key_probe_clear(struct key_probe *probe);
const char *key_condition_to_string(int condition);

int key_fetch(const struct key_reference *const references[], size_t n, size_t n_urgent,
	      unsigned timeout_ms, struct key_result results[]);
int key_store(const struct key_store *request, const struct secret *passphrase, unsigned timeout_ms,
	      struct key_result *result);
int key_probe(const struct key_store *request, unsigned timeout_ms, struct key_probe *probe);
