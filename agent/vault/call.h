/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vault/call.h - one call of the Key Vault data plane, with a token
 *
 * Gets the token, sends the request, answers a 401 with one fresh token, looks whether what is
 * missing was only deleted, and says what the end means. The operations (fetch, store, probe) are
 * chains of calls.
 */
#pragma once

#include "vault/failure.h"
#include "vault/identity.h"

/* What all operations of a batch share. */
struct session {
	struct http *http;
	struct identity *identity;
	size_t n_urgent; /* operations that the others hang on, and that have not ended */
};

/* One call. Zero it, fill in the first part; @done comes from http_run(). */
struct call {
	struct session *session;
	enum vault_action action;
	const struct vault_object *object;
	const char *client_id;
	struct secret *body; /* owned by the call; NULL: none */
	bool is_once;        /* never repeat what the vault may have done already */
	bool is_delayed;     /* wait first, as long as @tries says */
	unsigned tries;
	void (*done)(struct call *call);
	void *owner;

	struct http_exchange exchange; /* its answer, until call_clear() */
	int condition;                 /* 0 or VAULT_E_* */
	char *message;

	struct http_exchange deleted;
	struct identity_wish wish;
	unsigned generation;
	bool is_renewed;
};

void call_start(struct call *call);
void call_clear(struct call *call);
int call_corrupt(struct call *call, const char *what);
int call_result(struct call *call, struct vault_result *result);
int call_wrap_body(const char *algorithm, const uint8_t *letters, size_t n, struct secret **ret);
