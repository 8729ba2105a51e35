/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vault/failure.h - what an answer means, and how to say it to a person
 *
 * Decides on the status and the service's codes, never on its message. The sentence names the host,
 * what was wanted, the status, the code and the request's id, and nothing of the body.
 */
#pragma once

#include "vault/http.h"
#include "vault/vault.h"

enum vault_action {
	VAULT_SECRET_GET,
	VAULT_SECRET_SET,
	VAULT_KEY_GET,
	VAULT_KEY_WRAP,
	VAULT_KEY_UNWRAP,
};

bool failure_action_is_key(enum vault_action action);
int failure_of_vault(const struct http_exchange *exchange, enum vault_action action,
		     const struct vault_object *object, char **ret_message);
int failure_of_identity(const struct http_exchange *exchange, const char *client_id,
			char **ret_message);
int failure_deleted(const struct http_exchange *exchange, enum vault_action action,
		    const struct vault_object *object, char **ret_message);
int failure_corrupt(const struct http_exchange *exchange, const struct vault_object *object,
		    const char *what, char **ret_message);
int failure_challenge(const struct http_exchange *exchange, const struct vault_object *object,
		      char **ret_message);
bool challenge_fits(const char *challenge, const char *suffix);
