/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "vault/operation.h"
#include "vault/reply.h"

struct fetch {
	struct session *session;
	struct vault_operation *operation;
	struct call call;
	bool is_second_chance; /* the wrapped bytes come from the vault's secret */
};

static void unwrap_done(struct call *call);
static void secret_done(struct call *call);

static void end(struct fetch *fetch)
{
	(void)call_result(&fetch->call, &fetch->operation->result);
	operation_ended(fetch->session, fetch->operation);
}

static void end_internal(struct fetch *fetch)
{
	fetch->operation->result.condition = VAULT_E_UNREACHABLE;
	fetch->operation->result.message = strdup("Out of memory.");
	operation_ended(fetch->session, fetch->operation);
}

static void prepare(struct fetch *fetch, enum vault_action action,
		    const struct vault_object *object, void (*done)(struct call *call))
{
	call_clear(&fetch->call);
	fetch->call.session = fetch->session;
	fetch->call.action = action;
	fetch->call.object = object;
	fetch->call.client_id = fetch->operation->client_id;
	fetch->call.done = done;
	fetch->call.owner = fetch;
}

static void start_unwrap(struct fetch *fetch, const uint8_t *letters, size_t n)
{
	struct vault_operation *operation = fetch->operation;
	struct secret *body = NULL;

	if (call_wrap_body(operation->algorithm, letters, n, &body) < 0) {
		end_internal(fetch);
		return;
	}
	prepare(fetch, VAULT_KEY_UNWRAP, &operation->kek, unwrap_done);
	fetch->call.body = body;
	call_start(&fetch->call);
}

static void start_secret(struct fetch *fetch)
{
	prepare(fetch, VAULT_SECRET_GET, &fetch->operation->secret, secret_done);
	call_start(&fetch->call);
}

static void unwrap_done(struct call *call)
{
	struct fetch *fetch = call->owner;
	_cleanup_(secret_freep) struct secret *letters = NULL;

	/* the vault cannot decrypt what the header holds: its own copy may be whole */
	if (call->condition != 0 && call->exchange.answer.status == 400 &&
	    !fetch->is_second_chance) {
		fetch->is_second_chance = true;
		start_secret(fetch);
		return;
	}
	if (call->condition != 0 && call->exchange.answer.status == 400)
		(void)call_corrupt(call, "the wrapped passphrase does not fit the key's version");
	if (call->condition == 0 &&
	    (reply_string(call->exchange.answer.body, "value", &letters) != 0 ||
	     operation_decode(letters, &fetch->operation->fetched) != 0))
		(void)call_corrupt(call, "the answer holds no unwrapped passphrase");
	end(fetch);
}

static void secret_done(struct call *call)
{
	struct fetch *fetch = call->owner;
	struct vault_operation *operation = fetch->operation;
	_cleanup_(secret_freep) struct secret *value = NULL;

	if (call->condition != 0) {
		end(fetch);
		return;
	}
	if (reply_string(call->exchange.answer.body, "value", &value) != 0 ||
	    secret_size(value) > VAULT_PASSPHRASE_MAX_BYTES) {
		(void)call_corrupt(call, "the answer holds no passphrase");
		end(fetch);
		return;
	}
	if (!operation->kek.host[0]) {
		operation->fetched = steal(value);
		end(fetch);
		return;
	}
	/* the same bytes again would only be refused again */
	if (operation->wrapped && strlen(operation->wrapped) == secret_size(value) &&
	    memcmp(operation->wrapped, secret_bytes(value), secret_size(value)) == 0) {
		(void)call_corrupt(call, "the wrapped passphrase does not fit the key's version");
		end(fetch);
		return;
	}
	fetch->is_second_chance = true;
	start_unwrap(fetch, secret_bytes(value), secret_size(value));
}

/**
 * fetch_start() - the passphrase of a reference
 *
 * With a KEK: unwrap what the reference holds; when that is absent, or the vault cannot decrypt it,
 * the wrapped bytes that lie in the vault. Without a KEK: the value of the secret's version.
 *
 * Return: 0 or -ENOMEM.
 */
int fetch_start(struct session *session, struct vault_operation *operation, struct fetch **ret)
{
	struct fetch *fetch = calloc(1, sizeof(*fetch));

	if (!fetch)
		return -ENOMEM;
	fetch->session = session;
	fetch->operation = operation;
	*ret = fetch;
	if (operation->kek.host[0] && operation->wrapped)
		start_unwrap(fetch, (const uint8_t *)operation->wrapped,
			     strlen(operation->wrapped));
	else
		start_secret(fetch);
	return 0;
}

void fetch_free(struct fetch *fetch)
{
	if (!fetch)
		return;
	call_clear(&fetch->call);
	free(fetch);
}
