/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vault/vault.h - fetches, stores and probes in a key vault, many at once
 *
 * The only room that reaches the network. One call takes a batch: one identity token for each kind
 * of vault, all requests in parallel in one event loop, each repeated while it makes sense and the
 * time lasts. Speaks the Key Vault data plane 7.4, which vaults and Managed HSM share. The caller
 * has checked all names (they become parts of addresses to which tokens are sent).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/secret.h"

#define VAULT_PASSPHRASE_MAX_BYTES (25 * 1024) /* the service's limit for a secret's value */
#define VAULT_WRAPPED_MAX_BYTES    1366        /* base64url of 1024 bytes: an 8192-bit RSA key */
#define VAULT_ID_MAX_BYTES         1024

enum {
	VAULT_E_DENIED = 1,  /* it knows us and says no */
	VAULT_E_UNREACHABLE, /* no answer, throttled or failing: try again later */
	VAULT_E_GONE,        /* no such secret, key or version, or it is deleted */
	VAULT_E_DISABLED,    /* the secret or the key is disabled */
	VAULT_E_CONFIG,      /* no identity, wrong tenant, wrong address */
	VAULT_E_CORRUPT,     /* an answer of unexpected form, or not what was stored */
};

/* A vault (no name), or a secret or key in it (version empty: the latest). */
struct vault_object {
	char host[128];  /* "kv1.vault.azure.net" */
	char suffix[64]; /* "vault.azure.net" */
	char name[128];
	char version[64];
};

enum vault_verb {
	VAULT_FETCH,
	VAULT_STORE,
	VAULT_PROBE,
};

struct vault_result {
	int condition; /* 0 or VAULT_E_* */
	char *message; /* a sentence for people; NULL on 0 */
};

struct vault_probe {
	struct vault_result set, get, wrap, unwrap, metadata;
	char *region, *recovery_level, *kek_recovery_level;
	bool kek_is_disabled, kek_is_expired;
	char *machine_location, *machine_name;
	bool has_encryption_at_host;
};

/* One operation: all but the results is the caller's and borrowed. */
struct vault_operation {
	enum vault_verb verb;
	struct vault_object secret;      /* to fetch, to make, or to probe with */
	struct vault_object kek;         /* no host: there is none */
	const char *algorithm;           /* with a KEK */
	const char *wrapped;             /* fetch, with a KEK: base64url, or NULL */
	const char *client_id;           /* or NULL */
	const char *volume;              /* store: becomes a tag, or NULL */
	const char *machine;             /* store: becomes a tag, or NULL */
	const struct secret *passphrase; /* store */
	bool is_urgent;                  /* fetch: the rest is not waited for, see vault_run() */

	struct vault_result result;
	struct secret *fetched;
	char *secret_id, *kek_id, *stored_wrapped; /* store: versioned identifiers */
	struct vault_probe probe;
};

void vault_operation_clear_results(struct vault_operation *operation);

int vault_run(struct vault_operation operations[], size_t n, unsigned timeout_ms, int client_fd);
