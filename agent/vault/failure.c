/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vault/failure.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"

#define CODE_MAX_BYTES     64  /* the longest known one has 29 letters */
#define SENTENCE_MAX_BYTES 512 /* of a row, expanded; object names have at most 127 letters */

struct codes {
	char outer[CODE_MAX_BYTES], inner[CODE_MAX_BYTES];
};

/* clang-format off */
static const struct {
	const char *verb, *noun;
} actions[] = {
	[VAULT_SECRET_GET] = { "read secrets",          "secret" },
	[VAULT_SECRET_SET] = { "set secrets",           "secret" },
	[VAULT_KEY_GET]    = { "read keys",             "key"    },
	[VAULT_KEY_WRAP]   = { "wrap with keys",        "key"    },
	[VAULT_KEY_UNWRAP] = { "unwrap with keys",      "key"    },
};

/*
 * The first row that fits is the meaning; 0 and NULL fit all. "Key vault HOST" comes before, status,
 * code and request id behind. $verb, $noun and $name are filled in.
 * Source: Key Vault REST API reference, "Authentication, requests and responses", "error codes".
 */
static const struct {
	long status;
	const char *code;
	int condition;
	const char *says;
} meanings[] = {
	{ 400, "BadParameter", VAULT_E_CONFIG,
	  "did not accept the request for $noun $name" },
	{ 401, "AKV10032", VAULT_E_CONFIG,
	  "belongs to another tenant than the machine's identity" },
	{ 401, NULL, VAULT_E_CONFIG,
	  "did not accept the token of the machine's identity, not even a fresh one" },
	{ 403, "ForbiddenByPolicy", VAULT_E_DENIED,
	  "refused the request: the machine's identity has no permission to $verb" },
	{ 403, "ForbiddenByRbac", VAULT_E_DENIED,
	  "refused the request: the machine's identity has no role that allows it to $verb "
	  "(a new role assignment takes some minutes to work)" },
	{ 403, "AccessDenied", VAULT_E_DENIED,
	  "refused the request: it has no access policy for the machine's identity" },
	{ 403, "ForbiddenByFirewall", VAULT_E_DENIED,
	  "refused the request: its firewall does not admit this machine's address" },
	{ 403, "ForbiddenByConnection", VAULT_E_DENIED,
	  "refused the request: public access is off and this machine did not come through a "
	  "private link" },
	{ 403, "SecretDisabled", VAULT_E_DISABLED,
	  "refused the request: secret $name is disabled" },
	{ 403, "KeyDisabled", VAULT_E_DISABLED,
	  "refused the request: key $name is disabled" },
	{ 403, "KeyExpired", VAULT_E_DENIED,
	  "refused the request: key $name has expired" },
	{ 403, "KeyNotYetValid", VAULT_E_DENIED,
	  "refused the request: key $name is not valid yet" },
	{ 403, "KeyOperationForbidden", VAULT_E_DENIED,
	  "refused the request: key $name may not be used to $verb" },
	{ 403, NULL, VAULT_E_DENIED,
	  "refused the request: the machine's identity may not $verb" },
	{ 404, NULL, VAULT_E_GONE,
	  "has no $noun $name" },
	{ 409, "ObjectIsDeletedButRecoverable", VAULT_E_GONE,
	  "keeps a deleted $noun of the name $name: recover it, or purge it" },
	{ 409, "ObjectIsBeingDeleted", VAULT_E_UNREACHABLE,
	  "is still deleting a $noun of the name $name" },
	{ 409, NULL, VAULT_E_UNREACHABLE,
	  "has a conflict about $noun $name" },
	{ 408, NULL, VAULT_E_UNREACHABLE,
	  "did not get the request in time" },
	{ 429, NULL, VAULT_E_UNREACHABLE,
	  "throttles requests" },
	{ 0, NULL, 0, NULL },
};

static const struct {
	enum http_failure failure;
	int condition;
	const char *says; /* behind the server's name */
} troubles[] = {
	{ HTTP_NO_NAME,       VAULT_E_UNREACHABLE, "cannot be found: its name does not resolve "
			      "(deleted vault, private link, or no DNS)" },
	{ HTTP_NO_CONNECTION, VAULT_E_UNREACHABLE, "cannot be reached" },
	{ HTTP_TIMED_OUT,     VAULT_E_UNREACHABLE, "did not answer in time" },
	{ HTTP_BROKEN,        VAULT_E_UNREACHABLE, "broke off the connection" },
	{ HTTP_TLS,           VAULT_E_UNREACHABLE, "did not agree to a secure connection" },
	{ HTTP_CERTIFICATE,   VAULT_E_CONFIG,      "showed a certificate that is not accepted" },
	{ HTTP_TOO_LARGE,     VAULT_E_CORRUPT,     "gave an answer that is too large" },
	{ HTTP_ABANDONED,     VAULT_E_UNREACHABLE, "was not waited for" },
	{ HTTP_INTERNAL,      VAULT_E_UNREACHABLE, "could not be asked" },
};
/* clang-format on */

bool failure_action_is_key(enum vault_action action)
{
	return strcmp(actions[action].noun, "key") == 0;
}

/* a code is one word; what is not, is not shown */
static void copy_code(char out[CODE_MAX_BYTES], const char *code)
{
	size_t length = code ? strlen(code) : 0;

	out[0] = '\0';
	if (length >= CODE_MAX_BYTES)
		return;
	for (size_t i = 0; i < length; i++)
		if (!isalnum((unsigned char)code[i]) && code[i] != '_')
			return;
	memcpy(out, length ? code : "", length + 1);
}

/* AKV10032 and the like are only in the message */
static void copy_akv_code(char out[CODE_MAX_BYTES], const char *message)
{
	size_t digits;

	if (!message || strncmp(message, "AKV", 3) != 0)
		return;
	digits = strspn(message + 3, "0123456789");
	if (digits == 0 || digits > 8)
		return;
	memcpy(out, message, 3 + digits);
	out[3 + digits] = '\0';
}

/* the codes of an error's body, which holds no secret; empty ones for a body of any other form */
static void read_codes(const struct http_answer *answer, struct codes *codes)
{
	_cleanup_(json_putp) struct json_object *object = NULL;
	struct json_object *error, *inner;

	*codes = (struct codes){ 0 };
	if (!answer->body || answer->status < 300 ||
	    json_parse((const char *)secret_bytes_const(answer->body), secret_size(answer->body),
		       &object) < 0)
		return;
	error = json_get_object(object, "error");
	copy_code(codes->outer, json_get_string(error ? error : object, error ? "code" : "error"));
	if (answer->status == 401)
		copy_akv_code(codes->inner, json_get_string(error, "message"));
	for (inner = json_get_object(error, "innererror"); inner;
	     inner = json_get_object(inner, "innererror"))
		copy_code(codes->inner, json_get_string(inner, "code"));
}

static const char *word_for(const char *at, enum vault_action action, const char *name,
			    size_t *ret_skip)
{
	const struct {
		const char *mark, *word;
	} words[] = { { "$verb", actions[action].verb },
		      { "$noun", actions[action].noun },
		      { "$name", name } };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strncmp(at, words[i].mark, strlen(words[i].mark)) == 0) {
			*ret_skip = strlen(words[i].mark);
			return words[i].word;
		}
	return NULL;
}

static void expand(char out[SENTENCE_MAX_BYTES], const char *says, enum vault_action action,
		   const char *name)
{
	size_t used = 0;

	while (*says && used + 1 < SENTENCE_MAX_BYTES) {
		size_t skip;
		const char *word = word_for(says, action, name, &skip);

		if (!word) {
			out[used++] = *says++;
			continue;
		}
		while (*word && used + 1 < SENTENCE_MAX_BYTES)
			out[used++] = *word++;
		says += skip;
	}
	out[used] = '\0';
}

static const char *request_id_of(const struct http_exchange *exchange)
{
	return exchange->answer.request_id[0] ? exchange->answer.request_id : "none";
}

/* there was no HTTP answer. Return: condition. */
static int trouble(const struct http_exchange *exchange, const char *who, char **ret_message)
{
	const struct http_answer *answer = &exchange->answer;

	for (size_t i = 0; i < ARRAY_SIZE(troubles); i++) {
		if (troubles[i].failure != answer->failure)
			continue;
		(void)text_format(ret_message, "%s %s%s%s (%u tries).", who, troubles[i].says,
				  answer->problem[0] ? ": " : "", answer->problem, exchange->tries);
		return troubles[i].condition;
	}
	return VAULT_E_UNREACHABLE;
}

static int describe(const struct http_exchange *exchange, const char *host, int condition,
		    const char *sentence, const struct codes *codes, char **ret_message)
{
	const char *code = codes->inner[0] ? codes->inner : codes->outer;

	(void)text_format(ret_message, "Key vault %s %s (%ld%s%s, request id %s).", host, sentence,
			  exchange->answer.status, code[0] ? " " : "", code,
			  request_id_of(exchange));
	return condition;
}

/**
 * failure_of_vault() - what a vault's final answer means
 * @ret_message: a sentence; NULL when there is no failure or no memory
 *
 * Return: 0 for 200..299, else VAULT_E_*.
 */
int failure_of_vault(const struct http_exchange *exchange, enum vault_action action,
		     const struct vault_object *object, char **ret_message)
{
	const struct http_answer *answer = &exchange->answer;
	char sentence[SENTENCE_MAX_BYTES], who[160];
	struct codes codes;

	*ret_message = NULL;
	if (answer->failure != HTTP_ANSWERED) {
		(void)snprintf(who, sizeof(who), "Key vault %s", object->host);
		return trouble(exchange, who, ret_message);
	}
	if (answer->status >= 200 && answer->status < 300)
		return 0;
	read_codes(answer, &codes);
	for (size_t i = 0; meanings[i].condition != 0; i++) {
		if (meanings[i].status != answer->status ||
		    (meanings[i].code && strcmp(meanings[i].code, codes.inner) != 0 &&
		     strcmp(meanings[i].code, codes.outer) != 0))
			continue;
		expand(sentence, meanings[i].says, action, object->name);
		return describe(exchange, object->host, meanings[i].condition, sentence, &codes,
				ret_message);
	}
	if (answer->status >= 500)
		return describe(exchange, object->host, VAULT_E_UNREACHABLE, "is failing", &codes,
				ret_message);
	if (answer->status >= 300 && answer->status < 400)
		return describe(exchange, object->host, VAULT_E_CONFIG,
				"sent us elsewhere, which we do not follow", &codes, ret_message);
	return describe(exchange, object->host, VAULT_E_CONFIG, "did not accept the request",
			&codes, ret_message);
}

/** failure_deleted() - a 404 whose object turned out to be in soft-delete. Return: VAULT_E_GONE. */
int failure_deleted(const struct http_exchange *exchange, enum vault_action action,
		    const struct vault_object *object, char **ret_message)
{
	*ret_message = NULL;
	(void)text_format(ret_message,
			  "Key vault %s has deleted %s %s, but it is recoverable (404, request id "
			  "%s).",
			  object->host, actions[action].noun, object->name,
			  request_id_of(exchange));
	return VAULT_E_GONE;
}

/** failure_corrupt() - a good status around something unusable. Return: VAULT_E_CORRUPT. */
int failure_corrupt(const struct http_exchange *exchange, const struct vault_object *object,
		    const char *what, char **ret_message)
{
	*ret_message = NULL;
	(void)text_format(ret_message, "Key vault %s: %s (%ld, request id %s).", object->host, what,
			  exchange->answer.status, request_id_of(exchange));
	return VAULT_E_CORRUPT;
}

/** failure_challenge() - it wants a token that is not for it. Return: VAULT_E_CONFIG. */
int failure_challenge(const struct http_exchange *exchange, const struct vault_object *object,
		      char **ret_message)
{
	*ret_message = NULL;
	(void)text_format(ret_message,
			  "Key vault %s asks for a token that is not meant for %s; it does not get "
			  "one (401, request id %s).",
			  object->host, object->suffix, request_id_of(exchange));
	return VAULT_E_CONFIG;
}

/**
 * failure_of_identity() - what the metadata service's final answer means
 *
 * Return: 0 for 200, else VAULT_E_*.
 */
int failure_of_identity(const struct http_exchange *exchange, const char *client_id,
			char **ret_message)
{
	const struct http_answer *answer = &exchange->answer;
	struct codes codes;
	const char *says;
	int condition = VAULT_E_CONFIG;

	*ret_message = NULL;
	if (answer->failure != HTTP_ANSWERED)
		return trouble(exchange, "The instance metadata service (169.254.169.254)",
			       ret_message);
	if (answer->status == 200)
		return 0;
	read_codes(answer, &codes);
	if (answer->status == 404 || answer->status == 408 || answer->status == 410 ||
	    answer->status == 429 || answer->status >= 500) {
		condition = VAULT_E_UNREACHABLE;
		says = "the instance metadata service is not ready";
	} else if (answer->status == 400 && client_id) {
		says = "the managed identity that was named is not assigned to this machine";
	} else if (answer->status == 400) {
		says = "this machine has no managed identity, or several and none was named";
	} else {
		says = "the instance metadata service refused the request";
	}
	(void)text_format(ret_message, "Cannot get a token: %s (%ld%s%s%s%s).", says,
			  answer->status, codes.outer[0] ? " " : "", codes.outer,
			  client_id ? ", client id " : "", client_id ? client_id : "");
	return condition;
}

/* the value of name="…" in a challenge, or NULL when it is absent or too long */
static const char *challenge_value(const char *challenge, const char *name, char *out, size_t size)
{
	size_t length = strlen(name);

	for (const char *at = strstr(challenge, name); at; at = strstr(at + 1, name)) {
		const char *begin = at + length;
		size_t value_bytes;

		if (strncmp(begin, "=\"", 2) != 0 ||
		    (at > challenge && at[-1] != ' ' && at[-1] != ','))
			continue;
		begin += 2;
		value_bytes = strcspn(begin, "\"");
		if (begin[value_bytes] != '"' || value_bytes >= size)
			return NULL;
		memcpy(out, begin, value_bytes);
		out[value_bytes] = '\0';
		return out;
	}
	return NULL;
}

/**
 * challenge_fits() - whether a challenge asks for the token that this kind of vault may have
 * @challenge: WWW-Authenticate, any number of schemes
 * @suffix:    "vault.azure.net"
 *
 * A challenge that names no audience at all is fine: the audience comes from the suffix anyway. Any
 * other audience than https://SUFFIX is somebody who collects tokens.
 */
bool challenge_fits(const char *challenge, const char *suffix)
{
	char value[256];
	size_t length;

	if (!challenge_value(challenge, "resource", value, sizeof(value)) &&
	    !challenge_value(challenge, "scope", value, sizeof(value)))
		return !strstr(challenge, "resource=") && !strstr(challenge, "scope=");
	length = strlen(value);
	if (length > 9 && strcmp(value + length - 9, "/.default") == 0)
		value[length - 9] = '\0';
	length = strlen(value);
	if (length > 0 && value[length - 1] == '/')
		value[length - 1] = '\0';
	return strncasecmp(value, "https://", 8) == 0 && strcasecmp(value + 8, suffix) == 0;
}
