/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vault/call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "vault/body.h"
#include "vault/reply.h"

#define API_VERSION  "7.4" /* all that we need is unchanged since 7.0 */
#define GUID_LETTERS 36

/* clang-format off */
static const struct {
	const char *method, *collection, *operation;
} requests[] = {
	[VAULT_SECRET_GET] = { "GET",  "secrets", ""           },
	[VAULT_SECRET_SET] = { "PUT",  "secrets", ""           },
	[VAULT_KEY_GET]    = { "GET",  "keys",    ""           },
	[VAULT_KEY_WRAP]   = { "POST", "keys",    "/wrapkey"   },
	[VAULT_KEY_UNWRAP] = { "POST", "keys",    "/unwrapkey" },
};
/* clang-format on */

/* A fresh id for each call, the same for its repetitions. Source: RFC 4122, section 4.4. */
static void guid_make(char out[GUID_LETTERS + 1])
{
	uint8_t b[16] = { 0 };

	(void)!getrandom(b, sizeof(b), 0);
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	(void)snprintf(out, GUID_LETTERS + 1,
		       "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
		       b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12],
		       b[13], b[14], b[15]);
}

static int add_headers(struct http_exchange *exchange, const struct secret *token, bool has_body)
{
	_cleanup_(secret_freep) struct secret *bearer = NULL;
	char id[GUID_LETTERS + 1];
	int r;

	r = secret_new(secret_size(token) + 8, &bearer);
	if (r < 0)
		return r;
	(void)secret_append(bearer, "Bearer ", 7);
	(void)secret_append(bearer, secret_bytes_const(token), secret_size(token));
	/* a token is one word: anything else would become a header of its own */
	for (size_t i = 7; i < secret_size(bearer); i++)
		if (secret_bytes(bearer)[i] < 0x21 || secret_bytes(bearer)[i] > 0x7e)
			return -EBADMSG;
	guid_make(id);
	r = http_header(exchange, "Authorization", secret_bytes(bearer), secret_size(bearer));
	if (r == 0)
		r = http_header(exchange, "x-ms-client-request-id", id, GUID_LETTERS);
	if (r == 0)
		r = http_header(exchange, "Accept", "application/json", 16);
	if (r == 0 && has_body)
		r = http_header(exchange, "Content-Type", "application/json", 16);
	return r;
}

static void call_finish(struct call *call, int condition, char *message)
{
	call->condition = condition;
	free(call->message);
	call->message = message;
	call->done(call);
}

static void deleted_done(struct http_exchange *exchange)
{
	struct call *call = exchange->owner;
	char *message = NULL;
	int condition;

	if (exchange->answer.failure == HTTP_ANSWERED && exchange->answer.status == 200)
		condition = failure_deleted(&call->exchange, call->action, call->object, &message);
	else
		condition = failure_of_vault(&call->exchange, call->action, call->object, &message);
	call_finish(call, condition, message);
}

/* what is not there may be deleted but recoverable, which is worth a question of its own */
static void look_for_deleted(struct call *call, const struct secret *token)
{
	struct http_exchange *exchange = &call->deleted;
	int r;

	http_exchange_clear(exchange);
	exchange->policy = &http_policy_vault;
	exchange->method = "GET";
	exchange->done = deleted_done;
	exchange->owner = call;
	r = text_format(&exchange->url, "https://%s/deleted%s/%s?api-version=" API_VERSION,
			call->object->host, requests[call->action].collection, call->object->name);
	if (r == 0)
		r = add_headers(exchange, token, false);
	if (r == 0)
		http_start(call->session->http, exchange);
	else
		deleted_done(exchange);
}

static void exchange_done(struct http_exchange *exchange)
{
	struct call *call = exchange->owner;
	const struct http_answer *answer = &exchange->answer;
	char *message = NULL;
	int condition;

	if (answer->failure == HTTP_ANSWERED && answer->status == 401) {
		if (!challenge_fits(answer->challenge, call->object->suffix)) {
			condition = failure_challenge(exchange, call->object, &message);
			call_finish(call, condition, message);
			return;
		}
		if (!call->is_renewed) {
			call->is_renewed = true;
			call->wish.stale = call->generation;
			identity_ask(call->session->identity, &call->wish);
			return;
		}
	}
	if (answer->failure == HTTP_ANSWERED && answer->status == 404) {
		identity_ask(call->session->identity, &call->wish);
		return;
	}
	condition = failure_of_vault(exchange, call->action, call->object, &message);
	call_finish(call, condition, message);
}

static int send_request(struct call *call, const struct secret *token)
{
	const struct vault_object *object = call->object;
	/* a secret is set, and never with a version */
	bool has_version = object->version[0] && call->action != VAULT_SECRET_SET;
	struct http_exchange *exchange = &call->exchange;
	int r;

	http_exchange_clear(exchange);
	exchange->policy = &http_policy_vault;
	exchange->method = requests[call->action].method;
	exchange->body = call->body;
	exchange->tries = call->tries;
	exchange->is_once = call->is_once;
	exchange->is_delayed = call->is_delayed;
	exchange->done = exchange_done;
	exchange->owner = call;
	r = text_format(&exchange->url, "https://%s/%s/%s%s%s%s?api-version=" API_VERSION,
			object->host, requests[call->action].collection, object->name,
			has_version ? "/" : "", has_version ? object->version : "",
			requests[call->action].operation);
	if (r == 0)
		r = add_headers(exchange, token, call->body != NULL);
	if (r == 0)
		http_start(call->session->http, exchange);
	return r;
}

static void token_ready(struct identity_wish *wish, const struct secret *token, unsigned generation)
{
	struct call *call = wish->owner;
	int r;

	if (!token) {
		call_finish(call, wish->condition, wish->message ? strdup(wish->message) : NULL);
		return;
	}
	if (call->exchange.answer.status == 404) {
		look_for_deleted(call, token);
		return;
	}
	call->generation = generation;
	r = send_request(call, token);
	if (r < 0)
		call_finish(call, r == -EBADMSG ? VAULT_E_CORRUPT : VAULT_E_UNREACHABLE,
			    strdup(r == -EBADMSG ? "The token is not of the expected form."
						 : "Out of memory."));
}

/** call_start() - begin; call->done() is called once, perhaps before this returns */
void call_start(struct call *call)
{
	call->wish.suffix = call->object->suffix;
	call->wish.client_id = call->client_id;
	call->wish.ready = token_ready;
	call->wish.owner = call;
	identity_ask(call->session->identity, &call->wish);
}

/** call_clear() - release all of it; it can be filled in anew */
void call_clear(struct call *call)
{
	http_exchange_clear(&call->exchange);
	http_exchange_clear(&call->deleted);
	secret_free(call->body);
	free(call->message);
	*call = (struct call){ 0 };
}

/** call_corrupt() - declare a good answer unusable. Return: VAULT_E_CORRUPT, also in the call. */
int call_corrupt(struct call *call, const char *what)
{
	free(call->message);
	call->condition = failure_corrupt(&call->exchange, call->object, what, &call->message);
	return call->condition;
}

/** call_result() - hand condition and message over. Return: condition. */
int call_result(struct call *call, struct vault_result *result)
{
	free(result->message);
	result->condition = call->condition;
	result->message = steal(call->message);
	return result->condition;
}

/**
 * call_wrap_body() - {"alg":…,"value":…} for wrapkey and unwrapkey
 * @letters: base64url; looked at during the call
 *
 * Return: 0, -ENOBUFS or -ENOMEM.
 */
int call_wrap_body(const char *algorithm, const uint8_t *letters, size_t n, struct secret **ret)
{
	_cleanup_(secret_freep) struct secret *body = NULL;
	int r;

	r = secret_new(6 * (n + strlen(algorithm)) + 64, &body);
	if (r < 0)
		return r;
	r = body_append(body, "{\"alg\":");
	if (r == 0)
		r = body_append_string(body, algorithm, strlen(algorithm));
	if (r == 0)
		r = body_append(body, ",\"value\":");
	if (r == 0)
		r = body_append_string(body, letters, n);
	if (r == 0)
		r = body_append(body, "}");
	if (r == 0)
		*ret = steal(body);
	return r;
}
