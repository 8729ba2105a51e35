/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "vault/body.h"
#include "vault/operation.h"
#include "vault/reply.h"

#define PROBE_RANDOM_BYTES  32 /* as many as a passphrase has */
#define INSTANCE_URL        "http://169.254.169.254/metadata/instance/compute?api-version=2021-12-13"
#define INSTANCE_TIMEOUT_MS 10000 /* nobody depends on what it says */

/*
 * Four chains side by side, so that each permission is seen by itself: set → get, wrap → unwrap,
 * the key's metadata, the machine's metadata. A get after a failed set still says whether it is
 * allowed (404 or 403), and so does an unwrap of rubbish (400 or 403).
 */
struct probe {
	struct session *session;
	struct vault_operation *operation;
	struct secret *value; /* random letters, no key */
	struct call secret, key, metadata;
	struct http_exchange instance;
};

static void set_done(struct call *call);
static void get_done(struct call *call);
static void wrap_done(struct call *call);
static void unwrap_done(struct call *call);
static void metadata_done(struct call *call);
static void instance_done(struct http_exchange *exchange);

static void prepare(struct probe *probe, struct call *call, enum vault_action action,
		    const struct vault_object *object, void (*done)(struct call *call))
{
	call_clear(call);
	call->session = probe->session;
	call->action = action;
	call->object = object;
	call->client_id = probe->operation->client_id;
	call->done = done;
	call->owner = probe;
}

static int parse_body(const struct http_exchange *exchange, struct json_object **ret)
{
	const struct secret *body = exchange->answer.body;

	if (!body)
		return -EBADMSG;
	return json_parse((const char *)secret_bytes_const(body), secret_size(body), ret);
}

/* attributes.recoveryLevel of a bundle; the probe's bundle holds no secret */
static char *recovery_level_of(struct json_object *bundle)
{
	const char *level = json_get_string(json_get_object(bundle, "attributes"), "recoveryLevel");

	return level ? strdup(level) : NULL;
}

/* set, get */

static int start_set(struct probe *probe)
{
	_cleanup_(secret_freep) struct secret *body = NULL;
	int r;

	r = secret_new(1024, &body);
	if (r == 0)
		r = body_append(body, "{\"value\":");
	if (r == 0)
		r = body_append_string(body, secret_bytes(probe->value), secret_size(probe->value));
	if (r == 0)
		r = body_append(body, ",\"contentType\":\"vmcrypt probe, not a key\","
				      "\"tags\":{\"CreatedBy\":\"vmcrypt\"}}");
	if (r < 0)
		return r;
	prepare(probe, &probe->secret, VAULT_SECRET_SET, &probe->operation->secret, set_done);
	probe->secret.body = steal(body);
	call_start(&probe->secret);
	return 0;
}

static void set_done(struct call *call)
{
	struct probe *probe = call->owner;
	struct vault_probe *result = &probe->operation->probe;
	_cleanup_(json_putp) struct json_object *bundle = NULL;

	if (call->exchange.answer.region[0])
		result->region = strdup(call->exchange.answer.region);
	if (call->condition == 0 && parse_body(&call->exchange, &bundle) < 0)
		(void)call_corrupt(call, "the answer is no secret");
	if (bundle)
		result->recovery_level = recovery_level_of(bundle);
	(void)call_result(call, &result->set);
	prepare(probe, &probe->secret, VAULT_SECRET_GET, &probe->operation->secret, get_done);
	call_start(&probe->secret);
}

static void get_done(struct call *call)
{
	struct probe *probe = call->owner;
	struct vault_probe *result = &probe->operation->probe;
	_cleanup_(secret_freep) struct secret *value = NULL;

	if (call->condition == VAULT_E_GONE && result->set.condition != 0) {
		/* it may look, and there is nothing because nothing could be set */
		result->get.condition = 0;
		return;
	}
	if (call->condition == 0 && result->set.condition == 0 &&
	    (reply_string(call->exchange.answer.body, "value", &value) != 0 ||
	     !secret_equal(value, probe->value)))
		(void)call_corrupt(call, "the probe read back is not the one that was set");
	(void)call_result(call, &result->get);
}

/* wrap, unwrap */

static int start_key(struct probe *probe, enum vault_action action, const uint8_t *letters,
		     size_t n, void (*done)(struct call *call))
{
	struct secret *body = NULL;
	int r;

	r = call_wrap_body(probe->operation->algorithm, letters, n, &body);
	if (r < 0)
		return r;
	prepare(probe, &probe->key, action, &probe->operation->kek, done);
	probe->key.body = body;
	call_start(&probe->key);
	return 0;
}

static void wrap_done(struct call *call)
{
	struct probe *probe = call->owner;
	struct vault_probe *result = &probe->operation->probe;
	_cleanup_(secret_freep) struct secret *letters = NULL;
	int r;

	if (call->condition == 0 &&
	    reply_string(call->exchange.answer.body, "value", &letters) != 0)
		(void)call_corrupt(call, "the answer holds nothing wrapped");
	(void)call_result(call, &result->wrap);
	if (letters)
		r = start_key(probe, VAULT_KEY_UNWRAP, secret_bytes(letters), secret_size(letters),
			      unwrap_done);
	else
		r = start_key(probe, VAULT_KEY_UNWRAP, secret_bytes(probe->value),
			      secret_size(probe->value), unwrap_done);
	if (r < 0)
		result->unwrap.condition = VAULT_E_UNREACHABLE;
}

static void unwrap_done(struct call *call)
{
	struct probe *probe = call->owner;
	struct vault_probe *result = &probe->operation->probe;
	_cleanup_(secret_freep) struct secret *letters = NULL;

	if (result->wrap.condition != 0 && call->exchange.answer.status == 400) {
		result->unwrap.condition = 0; /* it may unwrap; there was nothing to unwrap */
		return;
	}
	if (result->wrap.condition == 0 && call->condition == 0 &&
	    (reply_string(call->exchange.answer.body, "value", &letters) != 0 ||
	     !secret_equal(letters, probe->value)))
		(void)call_corrupt(call, "what was unwrapped is not what was wrapped");
	(void)call_result(call, &result->unwrap);
}

/* metadata */

static void metadata_done(struct call *call)
{
	struct probe *probe = call->owner;
	struct vault_probe *result = &probe->operation->probe;
	_cleanup_(json_putp) struct json_object *bundle = NULL;
	struct json_object *attributes;
	int64_t now = (int64_t)time(NULL);

	if (call->condition == 0 && parse_body(&call->exchange, &bundle) < 0)
		(void)call_corrupt(call, "the answer is no key");
	if (bundle) {
		attributes = json_get_object(bundle, "attributes");
		result->kek_recovery_level = recovery_level_of(bundle);
		result->kek_is_disabled = !json_get_bool(attributes, "enabled", true);
		result->kek_is_expired = json_get_int(attributes, "exp", INT64_MAX) <= now;
	}
	if (call->condition == VAULT_E_DISABLED)
		result->kek_is_disabled = true;
	(void)call_result(call, &result->metadata);
}

static int start_instance(struct probe *probe)
{
	struct http_exchange *exchange = &probe->instance;
	int r;

	exchange->policy = &http_policy_metadata;
	exchange->method = "GET";
	exchange->deadline_ms = http_now_ms() + INSTANCE_TIMEOUT_MS;
	exchange->done = instance_done;
	exchange->owner = probe;
	exchange->url = strdup(INSTANCE_URL);
	if (!exchange->url)
		return -ENOMEM;
	r = http_header(exchange, "Metadata", "true", 4);
	if (r == 0)
		http_start(probe->session->http, exchange);
	return r;
}

static char *text_of(struct json_object *object, const char *name)
{
	const char *text = json_get_string(object, name);

	return text && text[0] ? strdup(text) : NULL;
}

/* all values of the metadata service are strings, also the truth */
static void instance_done(struct http_exchange *exchange)
{
	struct probe *probe = exchange->owner;
	struct vault_probe *result = &probe->operation->probe;
	_cleanup_(json_putp) struct json_object *compute = NULL;
	const char *host_encryption;

	if (exchange->answer.failure != HTTP_ANSWERED || exchange->answer.status != 200 ||
	    parse_body(exchange, &compute) < 0)
		return;
	result->machine_location = text_of(compute, "location");
	result->machine_name = text_of(compute, "name");
	host_encryption =
		json_get_string(json_get_object(compute, "securityProfile"), "encryptionAtHost");
	result->has_encryption_at_host =
		host_encryption && strcasecmp(host_encryption, "true") == 0;
}

/**
 * probe_start() - what the machine's identity can do in a vault
 *
 * Return: 0 or -ENOMEM.
 */
int probe_start(struct session *session, struct vault_operation *operation, struct probe **ret)
{
	_cleanup_(secret_freep) struct secret *random = NULL;
	struct probe *probe;
	int r;

	probe = calloc(1, sizeof(*probe));
	if (!probe)
		return -ENOMEM;
	probe->session = session;
	probe->operation = operation;
	*ret = probe;

	r = secret_new_random(PROBE_RANDOM_BYTES, &random);
	if (r == 0)
		r = operation_encode(random, &probe->value);
	if (r == 0)
		r = start_instance(probe);
	if (r == 0)
		r = start_set(probe);
	if (r < 0 || !operation->kek.host[0])
		return r;
	prepare(probe, &probe->metadata, VAULT_KEY_GET, &operation->kek, metadata_done);
	call_start(&probe->metadata);
	return start_key(probe, VAULT_KEY_WRAP, secret_bytes(probe->value),
			 secret_size(probe->value), wrap_done);
}

void probe_free(struct probe *probe)
{
	if (!probe)
		return;
	call_clear(&probe->secret);
	call_clear(&probe->key);
	call_clear(&probe->metadata);
	http_exchange_clear(&probe->instance);
	secret_free(probe->value);
	free(probe);
}
