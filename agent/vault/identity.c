/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vault/identity.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "vault/failure.h"
#include "vault/reply.h"
#include "vault/vault.h"

#define TOKEN_URL                                                                                  \
	"http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource="   \
	"https%3A%2F%2F"
#define CONCURRENT_MAX      5  /* the metadata service's own limit for this category */
#define CLIENT_ID_MAX_BYTES 64 /* a GUID has 36 letters */

struct token {
	struct identity *identity;
	struct http_exchange exchange;
	char *suffix, *client_id;
	struct secret *value;
	unsigned generation; /* counts the tokens that came */
	enum { TOKEN_IDLE, TOKEN_QUEUED, TOKEN_ASKED } state;
	struct identity_wish *wishes;
	struct token *next;
};

struct identity {
	struct http *http;
	struct token *tokens;
	unsigned n_asked;
};

/** identity_new() - an empty cache. Return: 0 or -ENOMEM. */
int identity_new(struct http *http, struct identity **ret)
{
	struct identity *identity = calloc(1, sizeof(*identity));

	if (!identity)
		return -ENOMEM;
	identity->http = http;
	*ret = identity;
	return 0;
}

static void token_free(struct token *token)
{
	http_exchange_clear(&token->exchange);
	secret_free(token->value);
	free(token->suffix);
	free(token->client_id);
	free(token);
}

struct identity *identity_free(struct identity *identity)
{
	if (!identity)
		return NULL;
	while (identity->tokens) {
		struct token *token = identity->tokens;

		identity->tokens = token->next;
		token_free(token);
	}
	free(identity);
	return NULL;
}

void identity_freep(struct identity **identity)
{
	identity_free(*identity);
}

static bool same(const char *a, const char *b)
{
	return a && b ? strcasecmp(a, b) == 0 : a == b;
}

static struct token *token_find(struct identity *identity, const struct identity_wish *wish)
{
	struct token *token;

	for (token = identity->tokens; token; token = token->next)
		if (same(token->suffix, wish->suffix) && same(token->client_id, wish->client_id))
			return token;
	token = calloc(1, sizeof(*token));
	if (!token)
		return NULL;
	token->suffix = strdup(wish->suffix);
	token->client_id = wish->client_id ? strdup(wish->client_id) : NULL;
	if (!token->suffix || (wish->client_id && !token->client_id)) {
		token_free(token);
		return NULL;
	}
	token->identity = identity;
	token->next = identity->tokens;
	identity->tokens = token;
	return token;
}

/* the client id becomes part of an address */
static bool client_id_is_sound(const char *client_id)
{
	size_t length = strlen(client_id);

	for (const char *c = client_id; *c; c++)
		if (!isalnum((unsigned char)*c) && *c != '-')
			return false;
	return length > 0 && length <= CLIENT_ID_MAX_BYTES;
}

static void answer_wishes(struct token *token, int condition, const char *message)
{
	struct identity_wish *wish = steal(token->wishes);

	while (wish) {
		struct identity_wish *next = wish->next;

		wish->condition = condition;
		wish->message = message;
		wish->ready(wish, condition == 0 ? token->value : NULL, token->generation);
		wish = next;
	}
}

static void token_done(struct http_exchange *exchange);

static void token_ask(struct token *token)
{
	const char *client_id = token->client_id;
	int r;

	token->state = TOKEN_ASKED;
	token->identity->n_asked++;
	http_exchange_clear(&token->exchange);
	token->exchange.policy = &http_policy_metadata;
	token->exchange.method = "GET";
	token->exchange.done = token_done;
	token->exchange.owner = token;
	/* the service has a cache of its own, which would give us the refused token again */
	r = text_format(&token->exchange.url, "%s%s%s%s%s", TOKEN_URL, token->suffix,
			client_id ? "&client_id=" : "", client_id ? client_id : "",
			token->generation > 0 ? "&bypass_cache=true" : "");
	if (r == 0)
		r = http_header(&token->exchange, "Metadata", "true", 4);
	if (r == 0) {
		http_start(token->identity->http, &token->exchange);
		return;
	}
	token->state = TOKEN_IDLE;
	token->identity->n_asked--;
	answer_wishes(token, VAULT_E_UNREACHABLE, "Out of memory.");
}

static void ask_queued(struct identity *identity)
{
	for (struct token *token = identity->tokens; token; token = token->next)
		if (token->state == TOKEN_QUEUED && identity->n_asked < CONCURRENT_MAX)
			token_ask(token);
}

static void token_done(struct http_exchange *exchange)
{
	struct token *token = exchange->owner;
	_cleanup_(freep) char *message = NULL;
	struct secret *value = NULL;
	int condition;

	token->state = TOKEN_IDLE;
	token->identity->n_asked--;
	condition = failure_of_identity(exchange, token->client_id, &message);
	if (condition == 0 && reply_string(exchange->answer.body, "access_token", &value) != 0) {
		condition = VAULT_E_CORRUPT;
		message = strdup("The instance metadata service gave an answer without a token.");
	}
	if (condition == 0) {
		secret_free(token->value);
		token->value = value;
		token->generation++;
	}
	answer_wishes(token, condition, message);
	ask_queued(token->identity);
}

static void refuse(struct identity_wish *wish, int condition, const char *message)
{
	wish->condition = condition;
	wish->message = message;
	wish->ready(wish, NULL, 0);
}

/**
 * identity_ask() - have wish->ready() called with a token, now or from http_run()
 * @wish: stays with the caller, and in place, until then
 */
void identity_ask(struct identity *identity, struct identity_wish *wish)
{
	struct token *token;

	if (wish->client_id && !client_id_is_sound(wish->client_id)) {
		refuse(wish, VAULT_E_CONFIG, "The identity's client id is not a GUID.");
		return;
	}
	token = token_find(identity, wish);
	if (!token) {
		refuse(wish, VAULT_E_UNREACHABLE, "Out of memory.");
		return;
	}
	if (token->value && token->generation > wish->stale) {
		wish->condition = 0;
		wish->ready(wish, token->value, token->generation);
		return;
	}
	wish->next = token->wishes;
	token->wishes = wish;
	if (token->state == TOKEN_IDLE) {
		token->state = TOKEN_QUEUED;
		ask_queued(identity);
	}
}
