/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vault/identity.h - tokens of the machine's managed identity
 *
 * Asks the instance metadata service, once for each audience and identity; whoever wants the same
 * token meanwhile waits for it. Tokens live in struct secret, in this process only, and are never
 * logged.
 */
#pragma once

#include "vault/http.h"

struct identity;

/* Somebody who wants a token. Zero it, fill in the first part. */
struct identity_wish {
	const char *suffix;    /* of the vault: the audience is https:// and this */
	const char *client_id; /* or NULL: the machine's only or own identity */
	unsigned stale;        /* generation of a token that was refused; 0: any will do */
	/* @token is borrowed; NULL: see condition and message (borrowed) */
	void (*ready)(struct identity_wish *wish, const struct secret *token, unsigned generation);
	void *owner;
	int condition;
	const char *message;

	struct identity_wish *next;
};

int identity_new(struct http *http, struct identity **ret);
struct identity *identity_free(struct identity *identity);
void identity_freep(struct identity **identity);

void identity_ask(struct identity *identity, struct identity_wish *wish);
