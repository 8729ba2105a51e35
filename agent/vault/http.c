/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vault/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "vault/reply.h"

#define CONNECTIONS_MAX    8L    /* a server; enough for 64 volumes without multiplexing */
#define RETRY_AFTER_MAX_MS 60000 /* a longer wish is not fulfilled: our own delay is used */
#define POLL_MAX_MS        1000  /* how late we notice that the client has gone */
#define REPLY_FIRST_BYTES  4096  /* most answers; the room doubles up to REPLY_MAX_BYTES */
#define HEADER_MAX_BYTES   16384 /* a token has up to about 4 KiB */

static const int vault_statuses[] = { 408, 429, 500, 502, 503, 504, 0 };
static const int metadata_statuses[] = { 404, 408, 410, 429, 500, 501, 502, 503,
					 504, 505, 506, 507, 508, 510, 511, 0 };

/* Source: retry guidance of Key Vault and of the instance metadata service (410: back in 70 s). */
const struct http_policy http_policy_vault = {
	.scheme = "https",
	.retried_statuses = vault_statuses,
	.connect_timeout_ms = 5000,
	.try_timeout_ms = 15000,
	.first_delay_ms = 800,
	.last_delay_ms = 16000,
	.uses_proxy = true,
};
const struct http_policy http_policy_metadata = {
	.scheme = "http",
	.retried_statuses = metadata_statuses,
	.connect_timeout_ms = 1000,
	.try_timeout_ms = 5000,
	.first_delay_ms = 1000,
	.last_delay_ms = 30000,
	.uses_proxy = false,
};

/* clang-format off */
static const struct {
	CURLcode code;
	enum http_failure failure;
	bool is_transient;
	bool was_sent;
} failures[] = {
	{ CURLE_COULDNT_RESOLVE_HOST,     HTTP_NO_NAME,       true,  false },
	{ CURLE_COULDNT_RESOLVE_PROXY,    HTTP_NO_NAME,       true,  false },
	{ CURLE_COULDNT_CONNECT,          HTTP_NO_CONNECTION, true,  false },
	{ CURLE_OPERATION_TIMEDOUT,       HTTP_TIMED_OUT,     true,  true  },
	{ CURLE_SSL_CONNECT_ERROR,        HTTP_TLS,           true,  false },
	{ CURLE_SEND_ERROR,               HTTP_BROKEN,        true,  true  },
	{ CURLE_RECV_ERROR,               HTTP_BROKEN,        true,  true  },
	{ CURLE_GOT_NOTHING,              HTTP_BROKEN,        true,  true  },
	{ CURLE_PARTIAL_FILE,             HTTP_BROKEN,        true,  true  },
	{ CURLE_HTTP2,                    HTTP_BROKEN,        true,  true  },
	{ CURLE_HTTP2_STREAM,             HTTP_BROKEN,        true,  true  },
	{ CURLE_WEIRD_SERVER_REPLY,       HTTP_BROKEN,        false, true  },
	{ CURLE_UNSUPPORTED_PROTOCOL,     HTTP_BROKEN,        false, true  },
	{ CURLE_BAD_CONTENT_ENCODING,     HTTP_BROKEN,        false, true  },
	{ CURLE_PEER_FAILED_VERIFICATION, HTTP_CERTIFICATE,   false, false },
	{ CURLE_SSL_CACERT_BADFILE,       HTTP_CERTIFICATE,   false, false },
	{ CURLE_SSL_ISSUER_ERROR,         HTTP_CERTIFICATE,   false, false },
	{ CURLE_WRITE_ERROR,              HTTP_TOO_LARGE,     false, true  },
	{ CURLE_FILESIZE_EXCEEDED,        HTTP_TOO_LARGE,     false, true  },
};
/* clang-format on */

struct http_transfer {
	CURL *easy;
	struct curl_slist *headers;
	int64_t due_ms;
	bool is_running;
};

struct http {
	CURLM *multi;
	const char *proxy;
	struct http_exchange *exchanges; /* not yet done */
	int64_t deadline_ms;
	int client_fd;
};

int64_t http_now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static const char *proxy_from_environment(void)
{
	const char *proxy = getenv("https_proxy");

	if (!proxy)
		proxy = getenv("HTTPS_PROXY");
	return proxy ? proxy : "";
}

/**
 * http_new() - an event loop with a deadline
 * @timeout_ms: for everything that will be started
 * @client_fd:  stream socket; when its other end closes, http_run() gives up; or -1
 *
 * Return: 0 or -ENOMEM.
 */
int http_new(unsigned timeout_ms, int client_fd, struct http **ret)
{
	struct http *http;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return -ENOMEM;
	http = calloc(1, sizeof(*http));
	if (!http)
		return -ENOMEM;
	http->multi = curl_multi_init();
	if (!http->multi) {
		free(http);
		return -ENOMEM;
	}
	(void)curl_multi_setopt(http->multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
	(void)curl_multi_setopt(http->multi, CURLMOPT_MAX_HOST_CONNECTIONS, CONNECTIONS_MAX);
	http->proxy = proxy_from_environment();
	http->deadline_ms = http_now_ms() + timeout_ms;
	http->client_fd = client_fd;
	*ret = http;
	return 0;
}

/** http_free() - end what is under way; its exchanges stay the callers' to clear. Return: NULL. */
struct http *http_free(struct http *http)
{
	if (!http)
		return NULL;
	for (struct http_exchange *exchange = http->exchanges; exchange; exchange = exchange->next)
		if (exchange->transfer && exchange->transfer->is_running) {
			(void)curl_multi_remove_handle(http->multi, exchange->transfer->easy);
			exchange->transfer->is_running = false;
		}
	(void)curl_multi_cleanup(http->multi);
	free(http);
	return NULL;
}

void http_freep(struct http **http)
{
	http_free(*http);
}

static struct http_transfer *transfer_of(struct http_exchange *exchange)
{
	if (!exchange->transfer)
		exchange->transfer = calloc(1, sizeof(*exchange->transfer));
	return exchange->transfer;
}

/**
 * http_header() - add a header; our copy of the line is wiped with the exchange
 * @value: printable bytes, for example of a token; looked at during the call
 *
 * Return: 0, -E2BIG or -ENOMEM.
 */
int http_header(struct http_exchange *exchange, const char *name, const void *value,
		size_t value_bytes)
{
	_cleanup_(secret_freep) struct secret *line = NULL;
	struct http_transfer *transfer = transfer_of(exchange);
	struct curl_slist *headers;
	int r;

	if (!transfer)
		return -ENOMEM;
	if (value_bytes > HEADER_MAX_BYTES)
		return -E2BIG;
	r = secret_new(strlen(name) + value_bytes + 3, &line);
	if (r < 0)
		return r;
	(void)secret_append(line, name, strlen(name));
	(void)secret_append(line, ": ", 2);
	(void)secret_append(line, value, value_bytes);
	(void)secret_append(line, "", 1);
	headers = curl_slist_append(transfer->headers, (const char *)secret_bytes(line));
	if (!headers)
		return -ENOMEM;
	transfer->headers = headers;
	return 0;
}

static void answer_clear(struct http_answer *answer)
{
	secret_freep(&answer->body);
	*answer = (struct http_answer){ .failure = HTTP_INTERNAL };
}

/** http_exchange_clear() - release all of it but the caller's body; it can be filled in anew */
void http_exchange_clear(struct http_exchange *exchange)
{
	struct http_transfer *transfer = exchange->transfer;

	if (transfer) {
		if (transfer->easy)
			curl_easy_cleanup(transfer->easy);
		for (struct curl_slist *line = transfer->headers; line; line = line->next)
			explicit_bzero(line->data, strlen(line->data));
		curl_slist_free_all(transfer->headers);
		free(transfer);
	}
	answer_clear(&exchange->answer);
	free(exchange->url);
	*exchange = (struct http_exchange){ 0 };
}

/* libcurl has read some of the body: the room for it grows in secrets of their own */
static size_t write_body(char *bytes, size_t size, size_t n, void *context)
{
	struct http_answer *answer = context;
	size_t used = answer->body ? secret_size(answer->body) : 0, room;
	_cleanup_(secret_freep) struct secret *larger = NULL;

	if (n > REPLY_MAX_BYTES - used)
		return 0;
	if (answer->body && n <= secret_capacity(answer->body) - used)
		return secret_append(answer->body, bytes, n) == 0 ? size * n : 0;
	for (room = REPLY_FIRST_BYTES; room < used + n;)
		room *= 2;
	if (secret_new(room, &larger) < 0)
		return 0;
	if (answer->body)
		(void)secret_append(larger, secret_bytes(answer->body), used);
	(void)secret_append(larger, bytes, n);
	secret_freep(&answer->body);
	answer->body = steal(larger);
	return size * n;
}

static void copy_header(CURL *easy, const char *name, char *out, size_t out_bytes)
{
	struct curl_header *header;

	out[0] = '\0';
	if (curl_easy_header(easy, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK ||
	    strlen(header->value) >= out_bytes)
		return;
	for (const char *c = header->value; *c; c++)
		if (*c < 0x20 || *c > 0x7e)
			return;
	strcpy(out, header->value);
}

/** http_delay_ms() - how long to wait after a number of tries; @random moves it by ±25 % */
unsigned http_delay_ms(const struct http_policy *policy, unsigned tries, unsigned random)
{
	uint64_t delay_ms = policy->first_delay_ms;

	for (unsigned i = 1; i < tries && delay_ms < policy->last_delay_ms; i++)
		delay_ms *= 2;
	if (delay_ms > policy->last_delay_ms)
		delay_ms = policy->last_delay_ms;
	return (unsigned)(delay_ms * (750 + random % 501) / 1000);
}

static unsigned own_delay_ms(const struct http_exchange *exchange)
{
	unsigned random = 250;

	(void)!getrandom(&random, sizeof(random), GRND_NONBLOCK);
	return http_delay_ms(exchange->policy, exchange->tries, random);
}

/* what the server asks for: milliseconds, seconds or a date; 0 when it says nothing usable */
static unsigned wished_delay_ms(CURL *easy)
{
	static const char *const names[] = { "retry-after-ms", "x-ms-retry-after-ms" };
	char text[HTTP_ID_MAX_BYTES];
	curl_off_t seconds = 0;
	uint64_t ms;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		copy_header(easy, names[i], text, sizeof(text));
		if (number_parse_u64(text, 1, RETRY_AFTER_MAX_MS, &ms) == 0)
			return (unsigned)ms;
	}
	if (curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &seconds) != CURLE_OK || seconds <= 0 ||
	    seconds > RETRY_AFTER_MAX_MS / 1000)
		return 0;
	return (unsigned)seconds * 1000;
}

static int64_t deadline_of(const struct http *http, const struct http_exchange *exchange)
{
	if (exchange->deadline_ms > 0 && exchange->deadline_ms < http->deadline_ms)
		return exchange->deadline_ms;
	return http->deadline_ms;
}

static int set_options(const struct http *http, struct http_exchange *exchange, CURL *easy)
{
	const struct http_policy *policy = exchange->policy;
	int64_t left_ms = deadline_of(http, exchange) - http_now_ms();
	long timeout_ms = left_ms < policy->try_timeout_ms ? (long)left_ms : policy->try_timeout_ms;
	CURLcode code = CURLE_OK;

#define SET(option, value)                                                                         \
	do {                                                                                       \
		if (code == CURLE_OK)                                                              \
			code = curl_easy_setopt(easy, option, value);                              \
	} while (0)

	SET(CURLOPT_URL, exchange->url);
	SET(CURLOPT_PROTOCOLS_STR, policy->scheme);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_PROXY, policy->uses_proxy ? http->proxy : "");
	if (!policy->uses_proxy)
		SET(CURLOPT_NOPROXY, "*");
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	SET(CURLOPT_PIPEWAIT, 1L);
	/* on a connection that was used before, libcurl would repeat by itself what gets no answer
	 */
	SET(CURLOPT_FRESH_CONNECT, exchange->is_once ? 1L : 0L);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_CONNECTTIMEOUT_MS, policy->connect_timeout_ms);
	SET(CURLOPT_TIMEOUT_MS, timeout_ms > 0 ? timeout_ms : 1L);
	SET(CURLOPT_USERAGENT, "vmcrypt/" VMCRYPT_VERSION " (Linux)");
	SET(CURLOPT_HTTPHEADER, exchange->transfer->headers);
	SET(CURLOPT_CUSTOMREQUEST, exchange->method);
	if (exchange->body) {
		SET(CURLOPT_POSTFIELDS, (const char *)secret_bytes(exchange->body));
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)secret_size(exchange->body));
	}
	SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)REPLY_MAX_BYTES);
	SET(CURLOPT_WRITEFUNCTION, write_body);
	SET(CURLOPT_WRITEDATA, &exchange->answer);
	SET(CURLOPT_ERRORBUFFER, exchange->answer.problem);
	SET(CURLOPT_PRIVATE, exchange);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* the end does not wait for a thread that waits for a dead name server */
	SET(CURLOPT_QUICK_EXIT, 1L);
#endif
#undef SET
	return code == CURLE_OK ? 0 : -ENOMEM;
}

static void finish(struct http *http, struct http_exchange *exchange)
{
	struct http_exchange **link = &http->exchanges;

	while (*link != exchange)
		link = &(*link)->next;
	*link = exchange->next;
	exchange->next = NULL;
	exchange->done(exchange);
}

/**
 * http_start() - have a request made by http_run()
 *
 * Cannot fail here: every trouble becomes the exchange's answer.
 */
void http_start(struct http *http, struct http_exchange *exchange)
{
	struct http_transfer *transfer = transfer_of(exchange);

	if (transfer)
		transfer->due_ms =
			http_now_ms() + (exchange->is_delayed ? own_delay_ms(exchange) : 0);
	answer_clear(&exchange->answer);
	exchange->next = http->exchanges;
	http->exchanges = exchange;
}

/** http_shorten() - end everything after @timeout_ms from now, unless it ends earlier anyway */
void http_shorten(struct http *http, unsigned timeout_ms)
{
	int64_t deadline_ms = http_now_ms() + timeout_ms;

	if (deadline_ms < http->deadline_ms)
		http->deadline_ms = deadline_ms;
}

/* Return: 1 when it runs now, 0 when it has ended at once. */
static int begin_try(struct http *http, struct http_exchange *exchange)
{
	struct http_transfer *transfer = exchange->transfer;

	answer_clear(&exchange->answer);
	exchange->tries++;
	if (transfer && !transfer->easy)
		transfer->easy = curl_easy_init();
	if (!transfer || !transfer->easy)
		return 0;
	curl_easy_reset(transfer->easy);
	if (set_options(http, exchange, transfer->easy) < 0 ||
	    curl_multi_add_handle(http->multi, transfer->easy) != CURLM_OK)
		return 0;
	transfer->is_running = true;
	return 1;
}

static bool status_is_retried(const struct http_exchange *exchange)
{
	for (const int *status = exchange->policy->retried_statuses; *status; status++)
		if (*status == exchange->answer.status)
			return true;
	return false;
}

/* fill in the answer. Return: whether it is worth another try. */
static bool judge(struct http_exchange *exchange, CURL *easy, CURLcode code)
{
	struct http_answer *answer = &exchange->answer;

	answer->failure = HTTP_INTERNAL;
	copy_header(easy, "x-ms-request-id", answer->request_id, sizeof(answer->request_id));
	copy_header(easy, "x-ms-keyvault-region", answer->region, sizeof(answer->region));
	copy_header(easy, "WWW-Authenticate", answer->challenge, sizeof(answer->challenge));
	if (code == CURLE_OK) {
		answer->failure = HTTP_ANSWERED;
		answer->was_sent = true;
		(void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &answer->status);
		return status_is_retried(exchange);
	}
	for (size_t i = 0; i < ARRAY_SIZE(failures); i++)
		if (failures[i].code == code) {
			curl_off_t connected_us = 0;

			answer->failure = failures[i].failure;
			answer->was_sent = failures[i].was_sent;
			/* a time-out before there was a connection has done nothing either */
			if (code == CURLE_OPERATION_TIMEDOUT &&
			    curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &connected_us) ==
				    CURLE_OK &&
			    connected_us == 0)
				answer->was_sent = false;
			return failures[i].is_transient;
		}
	return false;
}

static void end_try(struct http *http, struct http_exchange *exchange, CURLcode code)
{
	struct http_transfer *transfer = exchange->transfer;
	const struct http_answer *answer = &exchange->answer;
	unsigned delay_ms, wished_ms;
	bool is_retried;

	is_retried = judge(exchange, transfer->easy, code);
	wished_ms = wished_delay_ms(transfer->easy);
	(void)curl_multi_remove_handle(http->multi, transfer->easy);
	transfer->is_running = false;
	log_debug("HTTP %s: try %u, status %ld, %s, request id %s.", exchange->method,
		  exchange->tries, answer->status, curl_easy_strerror(code),
		  answer->request_id[0] ? answer->request_id : "none");

	/* after 429 nothing was done; after anything else that was sent, it may have been */
	if (exchange->is_once && answer->was_sent && answer->status != 429)
		is_retried = false;
	delay_ms = wished_ms > 0 ? wished_ms : own_delay_ms(exchange);
	transfer->due_ms = http_now_ms() + delay_ms;
	if (!is_retried || transfer->due_ms >= deadline_of(http, exchange))
		finish(http, exchange);
}

static bool client_is_gone(const struct http *http)
{
	struct pollfd client = { .fd = http->client_fd };

	return http->client_fd >= 0 && poll(&client, 1, 0) > 0 &&
	       (client.revents & (POLLHUP | POLLERR));
}

/* everything that is not done yet ends with @failure */
static void give_up(struct http *http, enum http_failure failure)
{
	while (http->exchanges) {
		struct http_exchange *exchange = http->exchanges;

		if (exchange->transfer && exchange->transfer->is_running) {
			(void)curl_multi_remove_handle(http->multi, exchange->transfer->easy);
			exchange->transfer->is_running = false;
		}
		answer_clear(&exchange->answer);
		exchange->answer.failure = failure;
		exchange->answer.was_sent = true;
		finish(http, exchange);
	}
}

/* Is its next try later than a deadline that was shortened meanwhile? Then its last answer counts.
 */
static bool is_too_late(const struct http *http, const struct http_exchange *exchange)
{
	const struct http_transfer *transfer = exchange->transfer;

	return transfer && transfer->easy && transfer->due_ms >= deadline_of(http, exchange);
}

/* begin what is due. Return: milliseconds until the next is, or until the deadline, at most
 * POLL_MAX_MS. */
static int begin_due(struct http *http)
{
	int64_t now_ms = http_now_ms(), wait_ms = POLL_MAX_MS;
	struct http_exchange *exchange = http->exchanges;

	if (http->deadline_ms - now_ms < wait_ms)
		wait_ms = http->deadline_ms - now_ms;
	while (exchange) {
		struct http_exchange *next = exchange->next;
		struct http_transfer *transfer = exchange->transfer;

		if (transfer && transfer->is_running) {
			exchange = next;
			continue;
		}
		if (is_too_late(http, exchange)) {
			finish(http, exchange);
			return 0; /* its owner may have changed the list */
		}
		if (transfer && transfer->due_ms > now_ms) {
			if (transfer->due_ms - now_ms < wait_ms)
				wait_ms = transfer->due_ms - now_ms;
		} else if (begin_try(http, exchange) == 0) {
			finish(http, exchange);
			return 0; /* its owner may have changed the list */
		}
		exchange = next;
	}
	return (int)wait_ms;
}

/**
 * http_run() - until all exchanges are done
 *
 * A callback may start others. Nothing runs after the deadline: what is left then is timed out.
 *
 * Return: 0, -ECONNABORTED when the client has gone, or -EIO when libcurl's loop has failed.
 */
int http_run(struct http *http)
{
	while (http->exchanges) {
		int running, left, wait_ms;
		CURLMsg *message;

		if (client_is_gone(http)) {
			give_up(http, HTTP_ABANDONED);
			return -ECONNABORTED;
		}
		if (http_now_ms() >= http->deadline_ms) {
			give_up(http, HTTP_TIMED_OUT);
			return 0;
		}
		wait_ms = begin_due(http);
		if (curl_multi_perform(http->multi, &running) != CURLM_OK) {
			give_up(http, HTTP_INTERNAL);
			return -EIO;
		}
		while ((message = curl_multi_info_read(http->multi, &left))) {
			CURLcode code = message->data.result;
			struct http_exchange *exchange = NULL;

			if (message->msg != CURLMSG_DONE)
				continue;
			(void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &exchange);
			end_try(http, exchange, code);
			wait_ms = 0;
		}
		if (http->exchanges && wait_ms > 0 &&
		    curl_multi_poll(http->multi, NULL, 0, wait_ms, NULL) != CURLM_OK) {
			give_up(http, HTTP_INTERNAL);
			return -EIO;
		}
	}
	return 0;
}
