/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "vault/body.h"
#include "vault/operation.h"
#include "vault/reply.h"

#define SETS_MAX 32 /* versions that lost replies may leave behind; the deadline comes first */

/*
 * wrap (with a KEK) → set → read back → unwrap (with a KEK) → compare. When the answer to the set
 * is lost, the latest version is looked at before another is made.
 */
struct store {
	struct session *session;
	struct vault_operation *operation;
	struct call call;
	struct vault_object kek;    /* with the version that wrapped */
	struct vault_object stored; /* with the version that was made */
	struct secret *value;       /* of the secret: wrapped, or the passphrase */
	char *kek_id, *secret_id;
	unsigned n_sets;
};

static void wrap_done(struct call *call);
static void set_done(struct call *call);
static void lost_done(struct call *call);
static void read_done(struct call *call);
static void unwrap_done(struct call *call);

static void end(struct store *store)
{
	(void)call_result(&store->call, &store->operation->result);
}

static void end_with(struct store *store, int condition, const char *message)
{
	store->operation->result.condition = condition;
	free(store->operation->result.message);
	store->operation->result.message = strdup(message);
}

static void prepare(struct store *store, enum vault_action action,
		    const struct vault_object *object, void (*done)(struct call *call))
{
	call_clear(&store->call);
	store->call.session = store->session;
	store->call.action = action;
	store->call.object = object;
	store->call.client_id = store->operation->client_id;
	store->call.done = done;
	store->call.owner = store;
}

/**
 * take_version() - the version at the end of an identifier that must name the same object
 * @collection: "secrets" or "keys"
 * @ret:        gets host, name and the version
 *
 * Return: 0, or VAULT_E_CORRUPT.
 */
static int take_version(const char *id, const struct vault_object *object, const char *collection,
			struct vault_object *ret)
{
	_cleanup_(freep) char *prefix = NULL;
	size_t length;

	if (text_format(&prefix, "https://%s/%s/%s/", object->host, collection, object->name) < 0)
		return VAULT_E_CORRUPT;
	if (strncasecmp(id, prefix, strlen(prefix)) != 0)
		return VAULT_E_CORRUPT;
	id += strlen(prefix);
	length = strlen(id);
	if (length == 0 || length >= sizeof(ret->version))
		return VAULT_E_CORRUPT;
	for (const char *c = id; *c; c++)
		if (!isalnum((unsigned char)*c))
			return VAULT_E_CORRUPT;
	*ret = *object;
	memcpy(ret->version, id, length + 1);
	return 0;
}

static void start_wrap(struct store *store)
{
	_cleanup_(secret_freep) struct secret *letters = NULL;
	struct secret *body = NULL;

	if (operation_encode(store->operation->passphrase, &letters) < 0 ||
	    call_wrap_body(store->operation->algorithm, secret_bytes(letters), secret_size(letters),
			   &body) < 0) {
		end_with(store, VAULT_E_UNREACHABLE, "Out of memory.");
		return;
	}
	prepare(store, VAULT_KEY_WRAP, &store->operation->kek, wrap_done);
	store->call.body = body;
	call_start(&store->call);
}

static int append_tags(const struct store *store, struct secret *body)
{
	const struct vault_operation *operation = store->operation;
	int r;

	r = body_append(body, ",\"tags\":{\"CreatedBy\":\"vmcrypt\"");
	if (r == 0)
		r = body_append_member(body, "MachineName", operation->machine);
	if (r == 0)
		r = body_append_member(body, "VolumeUUID", operation->volume);
	if (r == 0)
		r = body_append_member(body, "DiskEncryptionKeyEncryptionKeyURL", store->kek_id);
	if (r == 0)
		r = body_append_member(body, "DiskEncryptionKeyEncryptionAlgorithm",
				       store->kek_id ? operation->algorithm : NULL);
	return r < 0 ? r : body_append(body, "}}");
}

static int set_body(const struct store *store, struct secret **ret)
{
	_cleanup_(secret_freep) struct secret *body = NULL;
	int r;

	r = secret_new(6 * secret_size(store->value) + 8192, &body);
	if (r < 0)
		return r;
	r = body_append(body, "{\"value\":");
	if (r == 0)
		r = body_append_string(body, secret_bytes(store->value), secret_size(store->value));
	if (r == 0)
		r = body_append_member(body, "contentType",
				       store->kek_id ? "Wrapped LUKS passphrase"
						     : "LUKS passphrase");
	if (r == 0)
		r = append_tags(store, body);
	if (r == 0)
		*ret = steal(body);
	return r;
}

static void start_set(struct store *store, unsigned tries)
{
	struct secret *body = NULL;

	if (set_body(store, &body) < 0) {
		end_with(store, VAULT_E_UNREACHABLE, "Out of memory.");
		return;
	}
	store->n_sets++;
	prepare(store, VAULT_SECRET_SET, &store->operation->secret, set_done);
	store->call.body = body;
	store->call.is_once = true;
	store->call.tries = tries;
	store->call.is_delayed = tries > 0;
	call_start(&store->call);
}

static void wrap_done(struct call *call)
{
	struct store *store = call->owner;

	if (call->condition != 0) {
		end(store);
		return;
	}
	if (reply_string(call->exchange.answer.body, "value", &store->value) != 0 ||
	    secret_size(store->value) > VAULT_WRAPPED_MAX_BYTES ||
	    reply_text(call->exchange.answer.body, "kid", VAULT_ID_MAX_BYTES, &store->kek_id) !=
		    0 ||
	    take_version(store->kek_id, &store->operation->kek, "keys", &store->kek) != 0) {
		(void)call_corrupt(call, "the answer holds no wrapped passphrase");
		end(store);
		return;
	}
	start_set(store, 0);
}

/* remember the version and read it back; the passphrase counts only when it has come back */
static void start_read(struct store *store)
{
	struct call *call = &store->call;

	if (reply_text(call->exchange.answer.body, "id", VAULT_ID_MAX_BYTES, &store->secret_id) !=
		    0 ||
	    take_version(store->secret_id, &store->operation->secret, "secrets", &store->stored) !=
		    0) {
		(void)call_corrupt(call, "the answer does not name the secret's version");
		end(store);
		return;
	}
	prepare(store, VAULT_SECRET_GET, &store->stored, read_done);
	call_start(&store->call);
}

static void set_done(struct call *call)
{
	struct store *store = call->owner;

	if (call->condition == 0) {
		start_read(store);
		return;
	}
	if (call->condition != VAULT_E_UNREACHABLE || !call->exchange.answer.was_sent ||
	    call->exchange.answer.status == 429 || call->exchange.answer.status == 409 ||
	    store->n_sets >= SETS_MAX) {
		end(store);
		return;
	}
	/* perhaps it was done and only the answer was lost: look before doing it again */
	prepare(store, VAULT_SECRET_GET, &store->operation->secret, lost_done);
	call_start(&store->call);
}

static bool value_is_ours(const struct store *store, const struct call *call)
{
	_cleanup_(secret_freep) struct secret *value = NULL;

	return reply_string(call->exchange.answer.body, "value", &value) == 0 &&
	       secret_equal(value, store->value);
}

static void lost_done(struct call *call)
{
	struct store *store = call->owner;

	if (call->condition == 0 && value_is_ours(store, call))
		start_read(store);
	else if (call->condition == 0 || call->condition == VAULT_E_GONE)
		start_set(store, store->n_sets);
	else
		end(store);
}

static void finish(struct store *store)
{
	struct vault_operation *operation = store->operation;

	if (store->kek_id) {
		operation->stored_wrapped = strndup((const char *)secret_bytes(store->value),
						    secret_size(store->value));
		operation->kek_id = steal(store->kek_id);
		if (!operation->stored_wrapped) {
			end_with(store, VAULT_E_UNREACHABLE, "Out of memory.");
			return;
		}
	}
	operation->secret_id = steal(store->secret_id);
	end(store);
}

static void read_done(struct call *call)
{
	struct store *store = call->owner;
	struct secret *body = NULL;

	if (call->condition == 0 && !value_is_ours(store, call))
		(void)call_corrupt(call, "the secret read back is not the one that was set");
	if (call->condition != 0) {
		end(store);
		return;
	}
	if (!store->kek_id) {
		finish(store);
		return;
	}
	if (call_wrap_body(store->operation->algorithm, secret_bytes(store->value),
			   secret_size(store->value), &body) < 0) {
		end_with(store, VAULT_E_UNREACHABLE, "Out of memory.");
		return;
	}
	prepare(store, VAULT_KEY_UNWRAP, &store->kek, unwrap_done);
	store->call.body = body;
	call_start(&store->call);
}

static void unwrap_done(struct call *call)
{
	struct store *store = call->owner;
	_cleanup_(secret_freep) struct secret *letters = NULL, *passphrase = NULL;

	if (call->condition != 0) {
		end(store);
		return;
	}
	if (reply_string(call->exchange.answer.body, "value", &letters) != 0 ||
	    operation_decode(letters, &passphrase) != 0 ||
	    !secret_equal(passphrase, store->operation->passphrase)) {
		(void)call_corrupt(call, "what was unwrapped is not the passphrase");
		end(store);
		return;
	}
	finish(store);
}

/* Without a KEK the passphrase becomes a JSON string as it is. */
static int start_plain(struct store *store)
{
	const struct secret *passphrase = store->operation->passphrase;
	unsigned is_text = 1;
	int r;

	for (size_t i = 0; i < secret_size(passphrase); i++) {
		uint8_t c = secret_bytes_const(passphrase)[i];

		is_text &= (c >= 0x20) & (c <= 0x7e);
	}
	if (!is_text) {
		end_with(store, VAULT_E_CONFIG,
			 "The passphrase is not printable text: it needs a key encryption key.");
		return 0;
	}
	r = secret_new(secret_size(passphrase), &store->value);
	if (r < 0)
		return r;
	(void)secret_append(store->value, secret_bytes_const(passphrase), secret_size(passphrase));
	start_set(store, 0);
	return 0;
}

/**
 * store_start() - put a passphrase into the vault and prove that it comes back
 *
 * Return: 0 or -ENOMEM.
 */
int store_start(struct session *session, struct vault_operation *operation, struct store **ret)
{
	struct store *store = calloc(1, sizeof(*store));

	if (!store)
		return -ENOMEM;
	store->session = session;
	store->operation = operation;
	*ret = store;
	if (!operation->kek.host[0])
		return start_plain(store);
	start_wrap(store);
	return 0;
}

void store_free(struct store *store)
{
	if (!store)
		return;
	call_clear(&store->call);
	secret_free(store->value);
	free(store->kek_id);
	free(store->secret_id);
	free(store);
}
