/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vault/http.h - requests in parallel, each repeated until it is answered or the time is over
 *
 * A thin face over libcurl's multi interface: one event loop, multiplexed where the server can, TLS
 * 1.2 or newer with the peer verified, no redirects, bounded answers that land in a struct secret.
 * What is transient is repeated here, so that its callers see final results only. Never logs a
 * header, a body or a query.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/secret.h"

#define HTTP_ID_MAX_BYTES        64   /* a GUID has 36 letters */
#define HTTP_CHALLENGE_MAX_BYTES 1024 /* the longest recorded one has about 200 */
#define HTTP_PROBLEM_MAX_BYTES   256  /* CURL_ERROR_SIZE */

enum http_failure {
	HTTP_ANSWERED, /* there is a status */
	HTTP_NO_NAME,
	HTTP_NO_CONNECTION,
	HTTP_TIMED_OUT,
	HTTP_BROKEN,      /* reset, closed, or half an answer */
	HTTP_TLS,         /* no common protocol, or the handshake was cut */
	HTTP_CERTIFICATE, /* not trusted, expired, or for another name */
	HTTP_TOO_LARGE,
	HTTP_ABANDONED, /* the client has gone */
	HTTP_INTERNAL,
};

/* How a kind of server is talked to. */
struct http_policy {
	const char *scheme;
	const int *retried_statuses; /* ends with 0 */
	long connect_timeout_ms, try_timeout_ms;
	unsigned first_delay_ms, last_delay_ms; /* doubles from one to the other, ±25 % */
	bool uses_proxy;
};

extern const struct http_policy http_policy_vault, http_policy_metadata;

struct http_answer {
	enum http_failure failure;
	long status;                              /* 0 unless answered */
	char problem[HTTP_PROBLEM_MAX_BYTES];     /* libcurl's words on a failure */
	char request_id[HTTP_ID_MAX_BYTES];       /* x-ms-request-id */
	char region[HTTP_ID_MAX_BYTES];           /* x-ms-keyvault-region */
	char challenge[HTTP_CHALLENGE_MAX_BYTES]; /* WWW-Authenticate */
	struct secret *body;                      /* NULL when empty */
	bool was_sent;                            /* the server may have acted */
};

struct http_transfer; /* what libcurl needs for it */

/* One request. Zero it, fill in the caller's part, http_start() it; @done comes from http_run(). */
struct http_exchange {
	const struct http_policy *policy;
	const char *method;
	char *url;
	struct secret *body; /* NULL: none; borrowed until done */
	int64_t deadline_ms; /* monotonic; 0: that of the whole */
	unsigned tries;      /* counts up; set it beforehand to begin with a longer delay */
	bool is_delayed;     /* wait before the first try */
	bool is_once;        /* never repeat what the server may have done already */
	void (*done)(struct http_exchange *exchange);
	void *owner;
	struct http_answer answer;

	struct http_transfer *transfer;
	struct http_exchange *next;
};

struct http;

int http_new(unsigned timeout_ms, int client_fd, struct http **ret);
struct http *http_free(struct http *http);
void http_freep(struct http **http);

int http_header(struct http_exchange *exchange, const char *name, const void *value,
		size_t value_bytes);
void http_start(struct http *http, struct http_exchange *exchange);
void http_shorten(struct http *http, unsigned timeout_ms);
int http_run(struct http *http);
int64_t http_now_ms(void);
void http_exchange_clear(struct http_exchange *exchange);
unsigned http_delay_ms(const struct http_policy *policy, unsigned tries, unsigned random);
